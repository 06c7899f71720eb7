//! How does it look? On a terminal a picture that changes in place; elsewhere a line a second.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pelton::admin::PartitionState;

/// What there is to see at one moment.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) at: Duration,
    pub(super) total: usize,
    pub(super) sent: usize,
    pub(super) counted: usize,
    pub(super) sent_per_second: f64,
    pub(super) counted_per_second: f64,
    pub(super) workers: Vec<Row>,
    /// Sent and not yet counted, by partition.
    pub(super) lag: Vec<i64>,
}

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) word: &'static str,
    /// By partition; `None` for one that it doesn't own.
    pub(super) owns: Vec<Option<PartitionState>>,
}

/// Where the demo is shown.
#[derive(Debug)]
pub(super) struct Screen {
    paint: Paint,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    /// A picture below what was said, drawn again in place.
    Picture { all: MultiProgress, lines: Vec<ProgressBar> },
    /// A line a second, after this one.
    Lines { last: Option<u64> },
    /// Only what is said.
    Nothing,
}

impl Screen {
    pub(super) fn new() -> Self {
        if stdout().is_terminal() {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(10));
            return Self {
                paint: Paint::as_wanted(),
                shown: Shown::Picture { all, lines: Vec::new() },
            };
        }
        Self { paint: Paint(false), shown: Shown::Lines { last: None } }
    }

    pub(super) const fn paint(&self) -> Paint {
        self.paint
    }

    /// Says something that stays.
    pub(super) fn say(&self, text: &str) {
        match &self.shown {
            // Only fails where the terminal is gone; the exit code says it all then.
            Shown::Picture { all, .. } => drop(all.println(text.replace('\n', " \n"))),
            Shown::Lines { .. } | Shown::Nothing => print(text),
        }
    }

    /// Says what has happened, and when.
    pub(super) fn tell(&self, at: Duration, text: &str) {
        let time = self.paint.dim(&format!("{:>6.1} s", at.as_secs_f64()));
        self.say(&format!("{time}  {text}"));
    }

    pub(super) fn draw(&mut self, picture: &Picture) {
        match &mut self.shown {
            Shown::Picture { all, lines } => {
                let texts = picture.lines(self.paint);
                while lines.len() < texts.len() {
                    let line = all.add(ProgressBar::new_spinner());
                    let style = ProgressStyle::with_template("{msg}");
                    line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                    lines.push(line);
                }
                for (line, text) in lines.iter().zip(texts) {
                    // A line without any text would take no room.
                    line.set_message(if text.is_empty() { " ".to_owned() } else { text });
                }
            }
            Shown::Lines { last } => {
                let second = picture.at.as_secs();
                if *last != Some(second) {
                    *last = Some(second);
                    print(&picture.one_line());
                }
            }
            Shown::Nothing => {}
        }
    }

    /// Takes the picture away; what was said stays.
    pub(super) fn clear(&mut self) {
        if let Shown::Picture { all, .. } = &self.shown {
            drop(all.clear());
            // Lines that are dropped on a screen would leave themselves on it.
            all.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.shown = Shown::Nothing;
    }
}

#[expect(clippy::print_stdout, reason = "the demo is its output")]
fn print(text: &str) {
    println!("{text}");
}

impl Picture {
    /// For a terminal.
    fn lines(&self, paint: Paint) -> Vec<String> {
        let lag = HumanCount(u64::try_from(self.lag.iter().sum::<i64>()).unwrap_or(0));
        let numbers: String = (0..self.lag.len()).map(|number| format!("{number:>4}")).collect();
        let lags: String = self.lag.iter().map(|lag| format!("{lag:>4}")).collect();
        let name = self.workers.iter().map(|row| row.name.len()).max().unwrap_or(0).max(9);
        let mut lines = vec![
            String::new(),
            format!("  {:name$} {}", "sent", self.bar(self.sent, self.sent_per_second, "", paint)),
            format!(
                "  {:name$} {}",
                "counted",
                self.bar(self.counted, self.counted_per_second, &format!(" · lag {lag}"), paint)
            ),
            String::new(),
            paint.dim(&format!("  {:name$}{numbers}", "partition")),
        ];
        for (index, row) in self.workers.iter().enumerate() {
            let cells: String = row.owns.iter().map(|state| paint.cell(index, *state)).collect();
            lines.push(format!("  {:name$}{cells}   {}", row.name, paint.dim(row.word)));
        }
        lines.push(paint.dim(&format!("  {:name$}{lags}", "lag")));
        lines.push(String::new());
        lines.push(paint.dim("  ■ running  □ being taken over  ◌ being handed over"));
        lines
    }

    fn bar(&self, done: usize, per_second: f64, more: &str, paint: Paint) -> String {
        const WIDTH: usize = 24;
        let filled = (done * WIDTH).checked_div(self.total).unwrap_or(0).min(WIDTH);
        let bar = paint.strong(&"━".repeat(filled)) + &paint.dim(&"─".repeat(WIDTH - filled));
        let [done, total] = [done, self.total]
            .map(|n| HumanCount(u64::try_from(n).unwrap_or(u64::MAX)).to_string());
        let width = total.len();
        format!("{bar}  {done:>width$} of {total} · {per_second:>4.0} a second{more}")
    }

    /// For a file.
    fn one_line(&self) -> String {
        let owners: Vec<_> = self.workers.iter().filter_map(Row::owned).collect();
        format!(
            "{:>6.1} s  sent {} · counted {} of {} · {:.0} a second · lag {} · {}",
            self.at.as_secs_f64(),
            self.sent,
            self.counted,
            self.total,
            self.counted_per_second,
            self.lag.iter().sum::<i64>(),
            if owners.is_empty() {
                "nobody owns a partition".to_owned()
            } else {
                owners.join(" · ")
            },
        )
    }
}

impl Row {
    /// `worker-1: 0 2`, `None` if it owns nothing.
    pub(super) fn owned(&self) -> Option<String> {
        let numbers = self.owns.iter().enumerate().filter(|(_, state)| state.is_some());
        let numbers: Vec<_> = numbers.map(|(number, _)| number.to_string()).collect();
        (!numbers.is_empty()).then(|| format!("{}: {}", self.name, numbers.join(" ")))
    }
}

/// Colours, where they are wanted (<https://no-color.org>).
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl Paint {
    fn as_wanted() -> Self {
        Self(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.with("36", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// A partition in a worker's row: full while it runs, else a sign of where it stands.
    fn cell(self, worker: usize, state: Option<PartitionState>) -> String {
        const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "31"];
        let colour = COLOURS[worker % COLOURS.len()];
        match state {
            None => self.dim("   ·"),
            Some(PartitionState::Running) => self.with(colour, "   ■"),
            Some(PartitionState::Draining) => self.with(colour, "   ◌"),
            Some(_) => self.with(colour, "   □"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let owns = vec![Some(PartitionState::Running), None, Some(PartitionState::Draining)];
        let idle = Row { name: "worker-2".to_owned(), word: "idle", owns: vec![None; 3] };
        Picture {
            at: Duration::from_millis(1_250),
            total: 2_000,
            sent: 1_000,
            counted: 990,
            sent_per_second: 100.0,
            counted_per_second: 99.0,
            workers: vec![Row { name: "worker-1".to_owned(), word: "running", owns }, idle],
            lag: vec![4, 0, 6],
        }
    }

    #[test]
    fn a_line_tells_progress_rate_lag_and_owners() {
        assert_eq!(
            picture().one_line(),
            "   1.2 s  sent 1000 · counted 990 of 2000 · 99 a second · lag 10 · worker-1: 0 2"
        );
    }

    #[test]
    fn the_picture_shows_who_owns_what_and_where_it_stands() {
        let lines = picture().lines(Paint(false));
        assert!(lines[1].contains("1,000 of 2,000"), "{lines:?}");
        assert!(lines[2].ends_with("99 a second · lag 10"), "{lines:?}");
        assert_eq!(lines[4], "  partition   0   1   2");
        assert_eq!(lines[5], "  worker-1    ■   ·   ◌   running");
        assert_eq!(lines[7], "  lag         4   0   6");
    }
}
