//! The front's limits in one table: how much a client may send, open and hold, and for how long.
//! The sum of the memory limits stays below half of the 256 MiB that `deploy/kubernetes.yaml` allows.

use std::time::Duration;

/// Open connections of one listener. Clients hold one for each stream (`logs -f`, `attach`, `events`).
pub const CONNECTIONS_MAX: usize = 1024;
/// Headers of one request.
pub const HEADERS_MAX: usize = 128;
/// Bytes of a request's line and headers. dockerode repeats whole create bodies in the query.
pub const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a head that need no place in [`HEADS_IN_FLIGHT_KIB`]: nearly all heads are smaller.
pub const HEAD_BYTES_FREE: usize = 16 * 1024;
/// KiB of larger heads that all connections hold together.
pub const HEADS_IN_FLIGHT_KIB: usize = 16 * 1024;
/// A head that has begun must be complete within this.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// An idle connection is kept this long: the HTTP clients of Go keep theirs for 90 s.
pub const IDLE_TIME: Duration = Duration::from_secs(300);
/// A TLS handshake must be complete within this.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A method longer than any of HTTP's is not routed.
pub const METHOD_BYTES_MAX: usize = 16;
/// Parameters of a query; those beyond are not read. Go's own limit since 1.25.
pub const QUERY_PARAMETERS_MAX: usize = 10_000;

/// Bytes of a body that is read before its request is handled.
pub const SMALL_BODY_BYTES: u64 = 64 * 1024;
/// Bytes of a JSON body. Kubernetes stores at most 256 KiB of annotations, and so of a create request.
pub const JSON_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Values in a JSON body: each takes many times its text in memory, `0,` sixteen times.
pub const JSON_VALUES_MAX: usize = 100_000;
/// KiB of JSON bodies above [`SMALL_BODY_BYTES`] that are read or handled at the same time.
pub const BODIES_IN_FLIGHT_KIB: u32 = 8 * 1024;
/// How long such a body waits for its turn.
pub const BODY_TURN_TIME: Duration = Duration::from_secs(10);
/// A JSON body must arrive within this.
pub const JSON_BODY_TIME: Duration = Duration::from_secs(60);
/// Bytes of the JSON object with which the body of `exec start` begins.
pub const HIJACK_BYTES_MAX: usize = 64 * 1024;
/// That object must arrive within this.
pub const HIJACK_TIME: Duration = Duration::from_secs(10);
/// Bytes of one message of a websocket.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The body of an archive may pause this long: its sender may read it from a slow disk or network.
pub const BODY_IDLE_TIME: Duration = Duration::from_secs(300);
/// Bytes that are read of a body which is refused anyway, so that its client gets to read why.
pub const REFUSED_BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long such a body is read at most.
pub const REFUSED_BODY_TIME: Duration = Duration::from_secs(10);
