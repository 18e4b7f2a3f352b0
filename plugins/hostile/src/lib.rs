//! A policy that does what it should not, whichever its setting `deed` names: for the tests of the
//! host, which must answer every request and stay unhurt.

use d2k_guest::Settings;

d2k_guest::policy! {
    wit: "../../wit",
    world: "naming-policy",
    hook: naming,
    name: "hostile",
    summary: "Does what a policy should not.",
    settings: [("deed", "", "loop, grow, panic, huge, repeat, log, recurse, illegal, dash, same, random or pass.")],
    check: check,
    decide: decide,
}

fn check(settings: &Settings) -> Vec<(String, String)> {
    match settings.get("deed") {
        Some("bad-check") => panic!("the check itself fails"),
        Some("loop-check") => spin(),
        Some("wrong") => vec![("deed".into(), "wrong is not right".into())],
        _ => Vec::new(),
    }
}

fn decide(input: &api::Input, settings: &Settings) -> Result<Option<api::Plan>, api::Refusal> {
    let plan = |name: String| Ok(Some(api::Plan { name, warnings: Vec::new(), extra: Vec::new() }));
    match settings.get("deed").unwrap_or("pass") {
        "loop" => spin(),
        "grow" => {
            let mut held = Vec::new();
            loop {
                held.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&held);
            }
        }
        "panic" => panic!("something went wrong with {}", input.docker_name),
        "huge" => plan("a".repeat(8 << 20)),
        // Many texts that are one: little memory here, much at the host.
        "repeat" => {
            let text = "w".repeat(1 << 20);
            let warnings = (0..12).map(|_| text.clone()).collect();
            Ok(Some(api::Plan { name: "web".into(), warnings, extra: Vec::new() }))
        }
        "log" => loop {
            api::log::write(api::log::Level::Info, &"x".repeat(10_000));
        },
        "recurse" => plan(format!("a{}", deeper(1))),
        "illegal" => plan("Not_Legal!".into()),
        "dash" => plan("web-".into()),
        "same" => plan("always-the-same".into()),
        // There is no randomness; an address is the nearest thing to it.
        "random" => plan(format!("a{}", std::ptr::from_ref(input) as usize)),
        "refuse" => Err(forbid(format!("no {} today", input.docker_name))),
        _ => Ok(None),
    }
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

#[allow(unconditional_recursion)]
fn deeper(n: u64) -> u64 {
    let held = [n; 64];
    std::hint::black_box(&held);
    deeper(n + 1) + std::hint::black_box(held[7])
}
