//! A terminal on which a text is drawn again and again, in place.

use std::{
    future::pending,
    io::{self, IsTerminal, Read},
    thread,
};

use nix::{
    errno::Errno,
    sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr},
};
use tokio::sync::mpsc;

use super::output::print_raw;
use crate::error::{Error, ErrorKind, Result};

/// What was drawn last.
#[derive(Debug, Default)]
pub(crate) struct Drawing {
    height: usize,
}

impl Drawing {
    /// Draws a text, which must fit the terminal, where the last one was.
    pub(crate) fn draw(&mut self, text: &str) -> Result<()> {
        // Up to where the last one began, and clear from there on.
        let back = if self.height > 0 { format!("\x1b[{}A\x1b[J", self.height) } else { String::new() };
        self.height = text.lines().count();
        print_raw(&format!("{back}{text}"))
    }

    /// Leaves what was drawn where it is: the next one begins below.
    pub(crate) fn leave(&mut self) {
        self.height = 0;
    }
}

/// The keys of the terminal at stdin, which come at once and unseen, and with the cursor hidden, until this is
/// dropped. Without a terminal there no key is ever pressed.
pub(super) struct Keys {
    pressed: mpsc::UnboundedReceiver<u8>,
    before: Option<Termios>,
}

impl Keys {
    /// Takes over.
    pub(super) fn take() -> Result<Self> {
        let (sender, pressed) = mpsc::unbounded_channel();
        if !io::stdin().is_terminal() {
            return Ok(Self { pressed, before: None });
        }
        let fault = |err: Errno| Error::new(ErrorKind::Failed, "no keys from this terminal").source(err);
        let before = tcgetattr(io::stdin()).map_err(fault)?;
        let mut unseen = before.clone();
        // Ctrl-C stays a signal.
        unseen.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &unseen).map_err(fault)?;
        let keys = Self { pressed, before: Some(before) };
        // Not a task: it waits in a read that nothing ends, and no runtime shall wait for it.
        thread::spawn(move || {
            for key in io::stdin().lock().bytes().map_while(io::Result::ok) {
                if sender.send(key).is_err() {
                    return;
                }
            }
        });
        print_raw("\x1b[?25l")?;
        Ok(keys)
    }

    /// The next key; none when the terminal is gone. Cancel safe.
    pub(super) async fn pressed(&mut self) -> Option<u8> {
        match self.before {
            Some(_) => self.pressed.recv().await,
            None => pending().await,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing can be done about a terminal that refuses.
            let _ = print_raw("\x1b[?25h");
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
