//! `d2k-init`: d2k's helper inside a container. Lies in a ConfigMap, starts in front of the image's
//! own entrypoint and becomes it, and does for `docker exec`, `cp`, `top`, `kill` and `pause` what an
//! image without a shell cannot. It holds no right that the container has not, and talks to nobody but
//! through the streams that it was given.

use std::process::ExitCode;

mod archive;
mod arguments;
mod execute;
mod files;
mod fill;
mod gate;
mod hold;
mod input;
mod processes;
#[allow(dead_code, reason = "the other half of it is d2k's")]
mod protocol;
mod run;
mod signals;
mod stat;
mod supervise;
mod user;

use arguments::Arguments;

fn main() -> ExitCode {
    let mut arguments = Arguments::of_process();
    let code = match arguments.word().as_deref() {
        Some("run") => run::run(arguments),
        Some("exec") => execute::execute(arguments),
        Some("input") => input::input(arguments),
        Some("begin") => execute::begin(arguments),
        Some("release") => gate::release(),
        Some("kill") => signals::kill_first(arguments),
        Some("hold") => hold::hold(),
        Some("let-go") => hold::let_go(),
        Some("top") => processes::top(),
        Some("stat") => stat::stat(arguments),
        Some("pack") => archive::pack(arguments),
        Some("export") => archive::export(),
        Some("unpack") => archive::unpack(arguments),
        Some("fill") => fill::fill(arguments),
        _ => {
            eprintln!("d2k-init is d2k's helper inside a container; d2k runs it, people do not");
            125
        }
    };
    ExitCode::from(code)
}
