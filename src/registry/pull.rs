//! `docker pull`: the progress of it, true to what happens. d2k keeps no layers, the nodes of the
//! cluster fetch them; so each layer is checked at the registry, and none is fetched for show.

use async_stream::stream;
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use d2k_common::image::ImageFacts;

use super::Registry;
use super::auth::Credentials;
use super::error::RegistryError;
use super::image::Found;
use super::layer::Layer;
use super::reference::Reference;
use super::repository::Repository;

/// Layers of one image that are asked about at the same time, as many as Docker fetches.
const PARALLEL: usize = 3;
/// Length of a layer's short name in progress lines.
const SHORT: usize = 12;
/// Said once, so that nobody takes the pull for more than it is.
const NOTE: &str = "d2k: all layers are at the registry; the node fetches them when the container starts";

/// One step of a pull.
#[derive(Debug, Clone, PartialEq)]
pub enum PullItem {
    /// A line for the client.
    Progress(Value),
    /// The pull is over and went well; the last item.
    Done(Box<ImageFacts>),
    /// The pull failed; the last item. As the first item it can still become a status code,
    /// later only [`error_line`].
    Failed(RegistryError),
}

/// The line that tells of a failure after the answer began.
pub fn error_line(message: &str) -> Value {
    json!({ "errorDetail": { "message": message }, "error": message })
}

impl Registry {
    /// Pulls the image as far as d2k pulls. `known` is the digest under which the caller already
    /// has this reference, if it has. Where no registry answers the pull is acknowledged with
    /// made-up facts, since the nodes may reach what d2k does not.
    pub fn pull(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        known: Option<&str>,
    ) -> impl Stream<Item = PullItem> + Send + use<> {
        let (registry, reference) = (self.clone(), reference.clone());
        let (credentials, known) = (credentials.cloned(), known.map(str::to_owned));
        stream! {
            match registry.find(&reference, credentials.as_ref()).await {
                Ok(found) => {
                    let mut steps = Box::pin(steps(found, &reference, known.as_deref()));
                    while let Some(item) = steps.next().await {
                        yield item;
                    }
                }
                Err(error) if error.is_unreachable() => {
                    for line in acknowledged(&reference, &error) {
                        yield PullItem::Progress(line);
                    }
                    yield PullItem::Done(Box::new(registry.synthesised(&reference)));
                }
                Err(error) => yield PullItem::Failed(error),
            }
        }
    }
}

fn steps<'a>(
    found: Found<'a>,
    reference: &'a Reference,
    known: Option<&'a str>,
) -> impl Stream<Item = PullItem> + Send + 'a {
    stream! {
        let Found { place, facts, layers, .. } = found;
        let current = known == Some(facts.digest.as_str());
        let from = format!("Pulling from {}", reference.repository());
        yield PullItem::Progress(json!({ "status": from, "id": reference.wanted() }));
        if !current {
            for layer in &layers {
                yield PullItem::Progress(layer_line("Pulling fs layer", layer, json!({})));
            }
            let mut checks = stream::iter(layers).map(|layer| check(&place, layer)).buffered(PARALLEL);
            while let Some(checked) = checks.next().await {
                match checked {
                    Ok(line) => yield PullItem::Progress(line),
                    Err(error) => {
                        yield PullItem::Failed(error);
                        return;
                    }
                }
            }
            yield PullItem::Progress(json!({ "status": NOTE }));
        }
        for line in verdict(reference, &facts.digest, current) {
            yield PullItem::Progress(line);
        }
        yield PullItem::Done(Box::new(facts));
    }
}

/// `Download complete` is Docker's word for a layer that can be unpacked from here on; the sizes are
/// the real ones.
async fn check(place: &Repository<'_>, layer: Layer) -> Result<Value, RegistryError> {
    if !layer.foreign {
        place.has_blob(&layer.digest).await?;
    }
    let detail = json!({ "current": layer.size, "total": layer.size });
    Ok(layer_line("Download complete", &layer, detail))
}

fn layer_line(status: &str, layer: &Layer, detail: Value) -> Value {
    let hex = layer.digest.split(':').next_back().unwrap_or_default();
    json!({ "status": status, "progressDetail": detail, "id": hex.get(..SHORT).unwrap_or(hex) })
}

fn verdict(reference: &Reference, digest: &str, current: bool) -> [Value; 2] {
    let image = reference.familiar();
    let status = match current {
        true => format!("Status: Image is up to date for {image}"),
        false => format!("Status: Downloaded newer image for {image}"),
    };
    [json!({ "status": format!("Digest: {digest}") }), json!({ "status": status })]
}

/// The last line is the one by which clients know a good pull.
fn acknowledged(reference: &Reference, error: &RegistryError) -> [Value; 2] {
    let why =
        format!("d2k: no registry in reach ({error}); Kubernetes pulls the image when the container starts");
    let status = format!("Status: Image is up to date for {}", reference.familiar());
    [json!({ "status": why }), json!({ "status": status })]
}
