//! The demo: what ringfence does, shown with real programs in a world of its own, and checked while it is shown.
//!
//! Read in this order: [`stage`] (the world), [`client`] and [`traffic`] (the programs), [`visit`] (one exchange, seen
//! by the program and by the stream), [`acts`] and [`flip`] (the story), [`summary`] (the table at the end).
//!
//! Everything here is a promise: what is not as promised is printed as such, and the exit code is 1.

mod acts;
mod client;
mod flip;
mod http;
mod interrupt;
mod policies;
mod screen;
mod stage;
mod summary;
mod traffic;
mod visit;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use self::interrupt::Interrupted;
use self::screen::Screen;
use self::stage::Stage;
use crate::agent;

/// The exit code of a program that ended at Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Runs the demo. Exit code 0: all was as promised; 1: something was not; 130: interrupted. Whatever the end, nothing
/// of it is left.
#[must_use]
pub fn run() -> ExitCode {
    let begin = Instant::now();
    let mut screen = Screen::new();
    let played = play(&mut screen);
    // The stage is gone here: cgroups, namespaces, processes.
    match played {
        Err(error) if error.is::<Interrupted>() || interrupt::asked() => {
            println!("\n   Interrupted. The agent, the programs, their cgroups and namespaces are gone.");
            INTERRUPTED.into()
        }
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => {
            let seconds = begin.elapsed().as_secs_f64();
            match screen.broken() {
                0 => {
                    screen.promise(
                        true,
                        &format!("all as promised, in {seconds:.0} s; nothing is left behind"),
                    );
                    ExitCode::SUCCESS
                }
                broken => {
                    eprintln!("\ndemo: {broken} promises were not kept, see above");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn play(screen: &mut Screen) -> Result<()> {
    interrupt::listen()?;
    // Before the stage is set: a missing binary is said at once.
    agent::binary()?;
    let stage = Stage::set()?;
    acts::play(&stage, screen)
}
