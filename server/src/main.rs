//! kvd: from the command line to settings, a running member, and an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use server::config::{self, Config, Report, Startup};
use server::logging;

// Measured: 4 us less CPU a put than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run_no_programs();
    // Measured: p99 of a put halves, and memory that is given back really goes. An old kernel without
    // the switch is no reason to stop.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match config::from_process() {
        Ok(Startup::Print(text)) => print(&text),
        Ok(Startup::Report(report)) => tell(&report),
        Ok(Startup::Run(config)) => match run(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

/// The engine runs the program `sync` whenever it opens its files. That waits for everything that
/// anybody wrote to any disk, which takes minutes while a node pulls images, and what is ours is
/// synced without it. Nowhere on the path, it is not run.
#[expect(unsafe_code, reason = "the only way to tell a library which programs there are")]
fn run_no_programs() {
    // SAFETY: no other thread exists yet that could read the environment.
    unsafe { std::env::set_var("PATH", "/dev/null") };
}

fn run(config: Config) -> Result<(), String> {
    logging::init(&config.log)?;
    for note in &config.notes {
        tracing::info!("{note}");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    server::run(config).map_err(|error| format!("{error:#}"))
}

/// A reader who has seen enough and closed the pipe is a success.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("stdout: cannot be written ({error}); check where it goes"), 1)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn tell(report: &Report) -> ExitCode {
    // Whoever closed it does not want to know.
    let _ = io::stderr().write_all(report.stderr.as_bytes());
    let printed = print(&report.stdout);
    if printed == ExitCode::SUCCESS { ExitCode::from(report.code) } else { printed }
}

fn fail(error: &str, code: u8) -> ExitCode {
    // One line, whatever a mistyped key or path holds.
    let line = error.replace(char::is_control, " ");
    // If stderr is gone as well, the exit code is all there is left to say.
    let _ = writeln!(io::stderr(), "kvd: {line}");
    ExitCode::from(code)
}
