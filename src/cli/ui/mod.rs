//! `laminafs ui`: a browser for layers in the terminal.
//!
//! [`state`] is what is selected and shown, changed by [`keys`] and read by [`draw`]; none of them knows the terminal.
//! This file ties them to it.

mod cursor;
mod details;
mod draw;
mod filter;
mod keys;
mod layout;
mod nodes;
mod rows;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod tree;
mod waste;
mod worker;

use super::Failure;
use super::context::Context;
use super::target::{TARGETS, TargetArgs};
use crate::sys::process;
use anyhow::bail;
use clap::Args;
use state::{Outcome, State};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::Duration;
use terminal::{Happening, Screen};
use theme::Theme;

/// Arguments of `laminafs ui`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs ui [OPTIONS] TARGET[@N]\n       laminafs ui [OPTIONS] --lower DIR[:DIR...]",
    after_help = format!("{TARGETS}\n\n\
    Layers are on the left, the merged tree up to the selected layer on the right; A, C and D mark what that layer added, \
    changed and deleted. ? shows the keys, q quits. NO_COLOR is honoured.\n\n\
    Examples:\n  \
    laminafs ui debian:12\n  \
    laminafs ui docker-archive:web.tar\n  \
    laminafs ui --lower top:base")
)]
pub struct UiArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// What to look into
    #[arg(value_name = "TARGET", num_args = 0..=1)]
    words: Vec<OsString>,
}

/// Shows the browser until the user quits.
pub fn run(args: &UiArgs, context: &Context) -> Result<(), Failure> {
    check_terminal()?;
    let target = Arc::new(args.target.open_alone(&args.words, context)?);
    target.check()?;
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut state = State::new(&target.merged, Theme::new(colours));
    let mut screen = Screen::new(target.clone())?;
    let ended = browse(&mut state, &mut screen)?;
    drop(screen);
    match ended {
        Ended::ByUser => Ok(()),
        // Whoever waits for the program is told what ended it.
        Ended::BySignal(signal) => Ok(process::end_by(signal)?),
    }
}

fn check_terminal() -> anyhow::Result<()> {
    const INSTEAD: &str = "use laminafs layers, tree, ls, whence and waste instead, which print text";
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        bail!("ui needs a terminal for standard input and output; {INSTEAD}");
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        bail!("ui needs a terminal that can move its cursor (TERM is unset or dumb); {INSTEAD}");
    }
    Ok(())
}

/// How long the screen waits for what is found out, so that it is not drawn twice where that is soon.
const SOON: Duration = Duration::from_millis(15);

/// Draws, and takes keys, until the user quits or a signal comes.
fn browse(state: &mut State<'_>, screen: &mut Screen) -> anyhow::Result<Ended> {
    loop {
        let soon = ask(state, screen)?;
        if let Some(ended) = take_all(state, screen, soon)? {
            return Ok(ended);
        }
        screen.terminal.draw(|frame| {
            let panes = state.arrange(frame.area());
            draw::frame(state, &panes, frame);
        })?;
        let next = if state.is_busy() { None } else { Some(screen.happenings.recv()?) };
        if let Some(ended) = take_all(state, screen, next)? {
            return Ok(ended);
        }
        state.work();
    }
}

/// Has found out what the screen needs, and waits a little for it.
fn ask(state: &mut State<'_>, screen: &Screen) -> anyhow::Result<Option<Happening>> {
    let mut asked = false;
    while let Some(request) = state.request() {
        screen.ask(request)?;
        asked = true;
    }
    if !asked {
        return Ok(None);
    }
    match screen.happenings.recv_timeout(SOON) {
        Ok(happening) => Ok(Some(happening)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(gone) => Err(gone.into()),
    }
}

/// Takes all that has come, so that the screen is drawn once for it.
fn take_all(state: &mut State<'_>, screen: &mut Screen, mut next: Option<Happening>) -> anyhow::Result<Option<Ended>> {
    loop {
        if let Some(end) = next.take().map_or(Ok(None), |happening| handle(happening, state, screen))? {
            return Ok(Some(end));
        }
        match screen.happenings.try_recv() {
            Ok(happening) => next = Some(happening),
            Err(TryRecvError::Empty) => return Ok(None),
            Err(gone) => return Err(gone.into()),
        }
    }
}

/// How the browser ends.
enum Ended {
    ByUser,
    BySignal(i32),
}

fn handle(happening: Happening, state: &mut State<'_>, screen: &mut Screen) -> anyhow::Result<Option<Ended>> {
    match happening {
        Happening::Ended(signal) => return Ok(Some(Ended::BySignal(signal))),
        Happening::Lost(error) => return Err(anyhow::Error::from(error).context("cannot read from the terminal")),
        Happening::Continued => screen.again()?,
        Happening::Resized => {}
        Happening::Answered(answer) => state.take(answer),
        Happening::Key(key) => {
            let Some(action) = keys::action(key, state.tree.filter.typing) else { return Ok(None) };
            match state.apply(action) {
                Outcome::Continue => {}
                Outcome::Quit => return Ok(Some(Ended::ByUser)),
                Outcome::Suspend => screen.suspend()?,
                Outcome::Redraw => screen.redraw()?,
            }
        }
    }
    Ok(None)
}
