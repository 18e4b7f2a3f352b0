//! The default images: what the client wrote, unless settings rewrite or restrict it.

mod decide;

d2k_guest::policy! {
    wit: "../../wit",
    world: "images-policy",
    hook: images,
    name: "images",
    summary: "Takes images as the client wrote them; settings rewrite references, pin digests and restrict registries.",
    settings: [
        ("rewrite.*.from", "", "References that begin so, in their full form (docker.io/library/nginx:1.29), …"),
        ("rewrite.*.to", "", "… begin with this instead. The first that fits counts."),
        ("pin.*.image", "", "This image, with its tag, is …"),
        ("pin.*.digest", "", "… what has this digest. Pinned images are rewritten like all others."),
        ("allow.*", "", "Only references that fit one of these patterns, in their full form; * stands for any characters."),
    ],
    check: decide::check,
    decide: decide::decide,
}
