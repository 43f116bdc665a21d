//! Figures: percentiles of samples, medians of rounds, the table, the JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// The sample below which `percent` of them lie, in milliseconds.
pub(crate) fn percentile(samples: &[Duration], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, Duration::as_secs_f64) * 1000.0
}

/// The middle one of several rounds' values: one round that something else disturbed changes nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a figure should reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    /// At most so many times the raw system calls.
    Times(f64),
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// At least this, in the figure's unit.
    AtLeast(f64),
}

/// One line of the table: what Berth does, beside the raw system calls for the same work.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    what: String,
    unit: &'static str,
    raw: Option<f64>,
    berth: f64,
    ratio: Option<f64>,
    aim: Option<Aim>,
    reached: Option<bool>,
}

impl Figure {
    /// A figure of Berth alone.
    pub(crate) fn of(what: impl Into<String>, unit: &'static str, berth: f64) -> Self {
        Self { what: what.into(), unit, raw: None, berth, ratio: None, aim: None, reached: None }
    }

    /// The raw system calls' figure beside it.
    pub(crate) fn beside(mut self, raw: f64) -> Self {
        self.raw = Some(raw);
        self.ratio = Some(self.berth / raw);
        self
    }

    /// What it should reach.
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.reached = Some(match aim {
            Aim::Times(most) => self.ratio.is_some_and(|ratio| ratio <= most),
            Aim::AtMost(most) => self.berth <= most,
            Aim::AtLeast(least) => self.berth >= least,
        });
        self.aim = Some(aim);
        self
    }
}

/// A number in as many digits as it deserves.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The figures as a table that Markdown understands as well.
pub(crate) fn table(figures: &[Figure]) -> String {
    let or_nothing = |value: Option<f64>| value.map(number).unwrap_or_default();
    let mut rows = vec![["figure", "unit", "raw calls", "berth", "ratio", "aim", ""].map(String::from)];
    for figure in figures {
        rows.push([
            figure.what.clone(),
            figure.unit.to_string(),
            or_nothing(figure.raw),
            number(figure.berth),
            or_nothing(figure.ratio),
            match figure.aim {
                None => String::new(),
                Some(Aim::Times(most)) => format!("≤ {most}×"),
                Some(Aim::AtMost(most)) => format!("≤ {most}"),
                Some(Aim::AtLeast(least)) => format!("≥ {least}"),
            },
            figure.reached.map_or("", |reached| if reached { "reached" } else { "missed" }).to_string(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match column {
                2..=4 => write!(text, "| {cell:>width$} "),
                _ => write!(text, "| {cell:<width$} "),
            };
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let right = if matches!(column, 2..=4) { ":" } else { "-" };
                let _ = write!(text, "|{}{right}", "-".repeat(width + 1));
            }
            text.push_str("|\n");
        }
    }
    text
}
