//! The terminal: taken over for the browser, and given back as it was, whatever ends the program.

use super::keys;
use super::worker::Answer;
use crate::cli::target::Target;
use crate::sys::process::{self, HeldSignals};
use anyhow::Context;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::layout::{Position, Rect};
use std::io::{self, BufWriter, Stdout};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Room for a whole screen, so that it is written at once.
const SCREEN: usize = 64 << 10;

/// What happens.
#[derive(Debug)]
pub enum Happening {
    Key(KeyEvent),
    Resized,
    /// A signal asks the program to end.
    Ended(i32),
    /// A signal asks the program to stop.
    Stopped,
    /// The program goes on after it was stopped.
    Continued,
    /// The terminal cannot be read any more.
    Lost(io::Error),
    /// The target was read, or could not be.
    Read(Box<anyhow::Result<Target>>),
    /// What was asked for was found out.
    Answered(Answer),
}

/// The terminal while it shows the browser.
pub struct Screen {
    pub terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    pub happenings: Receiver<Happening>,
    /// Where threads tell what happens.
    pub sender: Sender<Happening>,
}

impl Screen {
    /// Takes the terminal over. Threads wait for keys and for signals; they end with the process.
    pub fn new() -> anyhow::Result<Self> {
        // Before any thread is started, so that all hold the signals.
        let more = [process::SIGTSTP, process::SIGCONT];
        let held = process::hold_termination_signals_and(&more)?;
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Nobody else draws meanwhile.
            let _stdout = io::stdout().lock();
            give_back();
            usual(panic);
            // The others would go on, on a terminal that is not theirs any more.
            if thread::current().name() != Some("main") {
                process::exit_now(101);
            }
        }));
        let (sender, happenings) = channel();
        let (signals, keys) = (sender.clone(), sender.clone());
        thread::Builder::new().name("signals".into()).spawn(move || watch_signals(&held, &signals))?;
        take().inspect_err(|_| give_back()).context("cannot use the terminal")?;
        let watching = thread::Builder::new().name("keys".into()).spawn(move || watch_keys(&keys));
        watching.inspect_err(|_| give_back())?;
        let out = BufWriter::with_capacity(SCREEN, io::stdout());
        let terminal = Terminal::new(CrosstermBackend::new(out)).inspect_err(|_| give_back());
        Ok(Self { terminal: terminal.context("cannot use the terminal")?, happenings, sender })
    }

    /// Takes the terminal again after it was given back, or after somebody else used it.
    pub fn again(&mut self) -> io::Result<()> {
        take()?;
        self.redraw()
    }

    /// Has all of the next frame drawn, not only what is new. (`Terminal::clear` would ask the terminal where its cursor is,
    /// and the answer comes with the keys.)
    pub fn redraw(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Gives the terminal back, and stops the program until it is told to go on.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        give_back();
        process::raise_held(process::SIGTSTP)?;
        Ok(self.again()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

/// As often as wanted; there is nobody to tell when it fails, as the terminal is gone then.
fn give_back() {
    execute!(io::stdout(), LeaveAlternateScreen, Show).unwrap_or_default();
    disable_raw_mode().unwrap_or_default();
}

fn watch_signals(held: &HeldSignals, to: &Sender<Happening>) {
    while let Ok(signal) = held.wait() {
        let happening = match signal {
            process::SIGCONT => Happening::Continued,
            process::SIGTSTP => Happening::Stopped,
            _ => Happening::Ended(signal),
        };
        if to.send(happening).is_err() {
            return;
        }
    }
}

fn watch_keys(to: &Sender<Happening>) {
    loop {
        let happening = match event::read() {
            Ok(Event::Key(key)) => {
                if keys::apart(key).any(|key| to.send(Happening::Key(key)).is_err()) {
                    return;
                }
                continue;
            }
            Ok(Event::Resize(..)) => Happening::Resized,
            Ok(_) => continue,
            Err(e) => Happening::Lost(e),
        };
        let lost = matches!(happening, Happening::Lost(_));
        if to.send(happening).is_err() || lost {
            return;
        }
    }
}
