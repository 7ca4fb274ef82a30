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
use super::target::{STACK, TARGETS, Target, TargetArgs};
use crate::image::format;
use crate::sys::process;
use anyhow::{Context as _, bail};
use clap::Args;
use state::{Outcome, State};
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::Duration;
use terminal::{Happening, Screen};
use theme::Theme;
use worker::Request;

/// Arguments of `laminafs ui`.
#[derive(Clone, Debug, Args)]
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
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen = Screen::new()?;
    let ended = show(args, context, Theme::new(colours), &mut screen);
    drop(screen);
    match ended? {
        Ended::ByUser => Ok(()),
        // Whoever waits for the program is told what ended it.
        Ended::BySignal(signal) => Ok(process::raise_held(signal)?),
    }
}

fn show(args: &UiArgs, context: &Context, theme: Theme, screen: &mut Screen) -> anyhow::Result<Ended> {
    let target = match read(args, context, theme, screen)? {
        ControlFlow::Continue(target) => Arc::new(target),
        ControlFlow::Break(ended) => return Ok(ended),
    };
    target.check()?;
    let requests = worker::start(target.clone(), screen.sender.clone())?;
    let mut state = State::new(&target.merged, theme);
    // What was read may have been warned of, on top of what was drawn.
    screen.redraw()?;
    browse(&mut state, &requests, screen)
}

/// Has the target read by a thread, so that one can quit meanwhile: the thread ends with the process.
fn read(
    args: &UiArgs,
    context: &Context,
    theme: Theme,
    screen: &mut Screen,
) -> anyhow::Result<ControlFlow<Ended, Target>> {
    let name = args.words.first().map_or(Cow::Borrowed(STACK), |word| format::name(word.as_bytes()));
    let (args, context, to) = (args.clone(), context.clone(), screen.sender.clone());
    thread::Builder::new().name("reader".into()).spawn(move || {
        let target = args.target.open_alone(&args.words, &context);
        // Nobody waits for it any more when the browser ends.
        to.send(Happening::Read(Box::new(target))).unwrap_or_default();
    })?;
    loop {
        screen.terminal.draw(|frame| draw::reading(&name, theme, frame))?;
        let happening = screen.happenings.recv()?;
        if let Happening::Read(target) = happening {
            return target.map(ControlFlow::Continue);
        }
        if let Some(ended) = handle(happening, None, screen)? {
            return Ok(ControlFlow::Break(ended));
        }
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
fn browse(state: &mut State<'_>, requests: &Sender<Request>, screen: &mut Screen) -> anyhow::Result<Ended> {
    loop {
        let soon = ask(state, requests, screen)?;
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
fn ask(state: &mut State<'_>, requests: &Sender<Request>, screen: &Screen) -> anyhow::Result<Option<Happening>> {
    let mut asked = false;
    while let Some(request) = state.request() {
        requests.send(request).context("the thread that reads layers broke down")?;
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
        if let Some(end) = next.take().map_or(Ok(None), |happening| handle(happening, Some(state), screen))? {
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

/// Does what a happening asks for; without a state while the target is being read.
fn handle(happening: Happening, state: Option<&mut State<'_>>, screen: &mut Screen) -> anyhow::Result<Option<Ended>> {
    match happening {
        Happening::Ended(signal) => return Ok(Some(Ended::BySignal(signal))),
        Happening::Lost(error) => return Err(anyhow::Error::from(error).context("cannot read from the terminal")),
        Happening::Stopped => screen.stop()?,
        Happening::Continued => screen.again()?,
        Happening::Resized | Happening::Read(_) => {}
        Happening::Answered(answer) => state.map_or((), |state| state.take(answer)),
        Happening::Key(key) => {
            let typing = state.as_ref().is_some_and(|state| state.tree.filter.typing);
            let Some(action) = keys::action(key, typing) else { return Ok(None) };
            match state.map_or_else(|| action.outcome(), |state| state.apply(action)) {
                Outcome::Continue => {}
                Outcome::Quit => return Ok(Some(Ended::ByUser)),
                Outcome::Suspend => process::stop_group()?,
                Outcome::Redraw => screen.redraw()?,
            }
        }
    }
    Ok(None)
}
