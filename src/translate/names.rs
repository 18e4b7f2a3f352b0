//! Names for containers that were given none: an adjective and a seafarer's word, as Docker has
//! an adjective and a scientist. The choice of words is ours.

use rand::Rng;

const ADJECTIVES: [&str; 40] = [
    "able", "amber", "bold", "brave", "brisk", "calm", "clear", "clever", "cool", "crisp", "eager", "early",
    "fair", "fast", "firm", "fresh", "gentle", "glad", "grand", "happy", "keen", "kind", "light", "lively",
    "lucky", "merry", "mild", "neat", "noble", "quick", "quiet", "rapid", "ready", "sharp", "silent",
    "steady", "sunny", "swift", "warm", "wise",
];

const NOUNS: [&str; 48] = [
    "anchor", "atoll", "beacon", "bosun", "breeze", "buoy", "canvas", "capstan", "clipper", "compass",
    "coral", "cutter", "delta", "dinghy", "dolphin", "ferry", "fjord", "galley", "gannet", "harbor", "helm",
    "heron", "island", "jetty", "keel", "lagoon", "lantern", "lugger", "marlin", "mast", "mooring",
    "narwhal", "oar", "orca", "osprey", "pelican", "pilot", "quay", "reef", "rudder", "sail", "schooner",
    "sextant", "skipper", "sloop", "tide", "trawler", "walrus",
];

fn pick<'a>(words: &'a [&'a str]) -> &'a str {
    words.get(rand::rng().random_range(0..words.len())).copied().unwrap_or("d2k")
}

/// A random name, `swift_heron41`; with the number some 190,000 of them.
pub fn random() -> String {
    format!("{}_{}{}", pick(&ADJECTIVES), pick(&NOUNS), rand::rng().random_range(0..100))
}
