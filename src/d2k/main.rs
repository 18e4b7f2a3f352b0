//! The program `d2k`. All of it is in the library.

fn main() -> std::process::ExitCode {
    d2k::cli::run()
}
