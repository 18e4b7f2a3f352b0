//! The tun device as a stream of packets for tokio.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A tun device without packet information, not blocking.
pub(super) struct Tun(AsyncFd<OwnedFd>);

impl Tun {
    /// Takes a device over.
    #[allow(
        deprecated,
        reason = "what replaces it is `unsafe`; an `OwnedFd` keeps the descriptor that it has"
    )]
    pub fn new(device: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&device, true)?;
        Ok(Self(AsyncFd::new(device)?))
    }

    /// The next packet, in the part of the buffer that is returned.
    pub async fn read<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a mut [u8]> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|device| Ok(rustix::io::read(device.get_ref(), &mut *buffer)?));
            match read {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(length)) => return Ok(buffer.get_mut(..length).unwrap_or_default()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Hands a packet to the kernel. One that it does not take is lost, as packets are.
    pub fn write(&self, packet: &[u8]) {
        if let Err(error) = rustix::io::write(self.0.get_ref(), packet) {
            tracing::trace!(%error, length = packet.len(), "the tun device did not take a packet");
        }
    }
}
