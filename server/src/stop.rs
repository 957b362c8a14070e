//! The end of a process that cannot be trusted to go on, or has nothing left to do.

use std::sync::OnceLock;

use store::Fatal;
use store::boot::{self, Places};
use tokio::sync::SetOnce;

/// Where the engine lies, so that its next start can be told to rebuild it.
static PLACES: OnceLock<Places> = OnceLock::new();

/// To be called once the data directory is this process's own.
pub fn on_fatal_condemn(places: Places) {
    // A process has one data directory; a second call could only repeat the first.
    if PLACES.set(places).is_ok() {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            say(panic);
            if panic.location().is_some_and(|place| place.file().contains(ENGINE)) {
                condemn();
            }
        }));
    }
}

/// In the path of the engine's source files. It panics at some kinds of damage instead of returning
/// an error; a panic ends the process, and the next one would meet the same damage.
const ENGINE: &str = "/sled-";

fn condemn() {
    if let Some(places) = PLACES.get()
        && let Err(error) = boot::condemn(places)
    {
        tracing::error!("{error}");
    }
}

/// Says why and exits with 1. The supervisor starts a new process, which recovers from the log;
/// an engine that held what cannot be is rebuilt then.
pub fn fatal(fatal: &Fatal) -> ! {
    if matches!(fatal, Fatal::Engine(_)) {
        condemn();
    }
    because(&fatal.to_string())
}

/// As [`fatal`], when it is not the store that failed.
pub fn because(why: &str) -> ! {
    tracing::error!("{why}; stopping");
    std::process::exit(1)
}

/// Why the process is to end although nothing is wrong with it.
static DONE: SetOnce<&str> = SetOnce::const_new();

/// Has the process stop as a signal does, with open requests answered, and then say why and exit
/// with 1, so that nobody takes it for a stop that was asked for.
pub fn after_requests(why: &'static str) {
    // The first reason is as good as the others.
    let _ = DONE.set(why);
}

/// Returns once [`after_requests`] was called.
pub async fn done() {
    DONE.wait().await;
}

/// Ends the process if [`after_requests`] was called.
pub fn if_done() {
    if let Some(why) = DONE.get() {
        because(why);
    }
}
