//! A bar on standard error while something takes long; nothing if that is no terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Cells of the bar.
const WIDTH: u64 = 30;
/// Shortest time between two drawings.
const PACE: Duration = Duration::from_millis(100);

/// A bar.
#[derive(Debug)]
pub(super) struct Progress {
    label: &'static str,
    total: u64,
    begun: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// A bar for `total` of something.
    pub(super) fn new(label: &'static str, total: u64) -> Progress {
        Progress {
            label,
            total,
            begun: Instant::now(),
            drawn: None,
            shown: std::io::stderr().is_terminal(),
        }
    }

    /// Somebody sees it.
    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    /// So many are done.
    pub(super) fn at(&mut self, done: u64) {
        let fresh = self.drawn.is_none_or(|drawn| drawn.elapsed() >= PACE);
        if self.shown && fresh {
            self.drawn = Some(Instant::now());
            draw(&format!(
                "\r{}",
                line(self.label, done, self.total, self.begun.elapsed())
            ));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            // To the start of the line, and erase it.
            draw("\r\x1b[K");
        }
    }
}

fn draw(text: &str) {
    let mut out = std::io::stderr().lock();
    // A terminal that went away needs no bar.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line(label: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let part = |of: u64| (done.min(total) * of).checked_div(total).unwrap_or(of);
    let bar: String = (0..WIDTH)
        .map(|cell| if cell < part(WIDTH) { '#' } else { '.' })
        .collect();
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    format!(
        "{label} [{bar}] {:3} %  {done} of {total}, {rate:.0}/s ",
        part(100)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_from_left_to_right() {
        let second = Duration::from_secs(1);
        let half = line("x", 50, 100, second);
        let bar = format!("[{}{}]", "#".repeat(15), ".".repeat(15));
        assert!(half.contains(&bar) && half.contains("50 %"), "{half}");
        assert!(half.contains("50 of 100, 50/s"), "{half}");
        assert!(line("x", 100, 100, second).contains("100 %"));
        assert!(line("x", 0, 0, second).contains("100 %"));
    }
}
