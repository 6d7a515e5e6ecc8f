//! What is known of the terminal: how wide it is, whether colours are welcome, and how
//! long work shows that it goes on. **Where there is no terminal, nothing of it shows.**

use std::io::{IsTerminal, Write, stderr, stdout};

use crate::config::environment;

/// How standard output is to be written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Its columns; none: it is no terminal, or does not say.
    pub(super) width: Option<usize>,
    /// Whether text may have colours.
    pub(super) colours: bool,
}

impl Terminal {
    /// Of this process.
    pub(super) fn of_stdout() -> Terminal {
        if !stdout().is_terminal() {
            return Terminal::default();
        }
        let size = rustix::termios::tcgetwinsize(stdout()).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        let is_dumb = environment::text("TERM").is_some_and(|name| name == "dumb");
        Terminal { width, colours: !is_dumb && environment::text(environment::NO_COLOR).is_none() }
    }

    /// `text` in that colour, where colours are welcome.
    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        match self.colours {
            true => format!("\u{1b}[{}m{text}\u{1b}[0m", colour as u8),
            false => text.to_owned(),
        }
    }
}

/// The colours used, as ECMA-48 numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// Not a colour: headings.
    Bold = 1,
    /// Something went wrong.
    Red = 31,
    /// It went well.
    Green = 32,
    /// It is not decided yet.
    Yellow = 33,
}

/// How far long work is, as one line on standard error that is written over, and gone
/// once the work is done.
pub(super) struct Progress {
    what: &'static str,
    /// Told last, in steps; none: nobody sees it.
    shown: Option<u64>,
}

/// Cells of a bar.
const BAR_CELLS: u64 = 30;
/// Bytes between two looks at how far it is.
const STEP_BYTES: u64 = 1 << 20;

impl Progress {
    /// Of work that is called `what`.
    pub(super) fn new(what: &'static str) -> Progress {
        Progress { what, shown: stderr().is_terminal().then_some(u64::MAX) }
    }

    /// That many things are done.
    pub(super) fn count(&mut self, done: u64, things: &str) {
        self.show(done, || format!("{done} {things}"));
    }

    /// That many bytes are done, of `total` where that is known.
    pub(super) fn bytes(&mut self, done: u64, total: Option<u64>) {
        self.show(done / STEP_BYTES, || bytes_line(done, total));
    }

    /// Writes the line, where `step` is another than before.
    fn show(&mut self, step: u64, line: impl Fn() -> String) {
        if self.shown.is_some_and(|shown| shown != step) {
            self.shown = Some(step);
            // Nothing is lost where it cannot be told.
            let _ = write!(stderr(), "\r\u{1b}[K{}: {}", self.what, line());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some_and(|shown| shown != u64::MAX) {
            let _ = write!(stderr(), "\r\u{1b}[K");
        }
    }
}

fn bytes_line(done: u64, total: Option<u64>) -> String {
    let mebibytes = |bytes: u64| bytes >> 20;
    let Some(total) = total.filter(|total| *total > 0) else { return format!("{} MiB", mebibytes(done)) };
    let done = done.min(total);
    format!("{} {} of {} MiB", bar(done, total), mebibytes(done), mebibytes(total))
}

/// As full as `done` is of `total`, which is more than 0.
pub(super) fn bar(done: u64, total: u64) -> String {
    let cells = |count: u64, cell: &str| cell.repeat(usize::try_from(count).unwrap_or_default());
    let full = u128::from(done.min(total)) * u128::from(BAR_CELLS) / u128::from(total.max(1));
    let full = u64::try_from(full).unwrap_or(BAR_CELLS);
    format!("[{}{}]", cells(full, "#"), cells(BAR_CELLS - full, "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        let bar = |full: usize| format!("[{}{}]", "#".repeat(full), "-".repeat(30 - full));
        assert_eq!(bytes_line(0, Some(4 << 20)), format!("{} 0 of 4 MiB", bar(0)));
        assert_eq!(bytes_line(2 << 20, Some(4 << 20)), format!("{} 2 of 4 MiB", bar(15)));
        // A file that grows meanwhile.
        assert_eq!(bytes_line(9 << 20, Some(4 << 20)), format!("{} 4 of 4 MiB", bar(30)));
        assert_eq!(bytes_line(3 << 20, None), "3 MiB");
        assert_eq!(bytes_line(3 << 20, Some(0)), "3 MiB");
    }

    #[test]
    fn colours_only_where_they_are_welcome() {
        let coloured = Terminal { colours: true, ..Terminal::default() };
        assert_eq!(coloured.paint(Colour::Red, "failed"), "\u{1b}[31mfailed\u{1b}[0m");
        assert_eq!(Terminal::default().paint(Colour::Red, "failed"), "failed");
    }
}
