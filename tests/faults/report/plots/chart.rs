//! A chart over time as SVG: axes, faults behind, dots and lines, a legend that takes its own row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::history::{History, Window};

/// Distinct colours that stay apart for most colour-blind people (Okabe and Ito's, the yellow left out).
pub(crate) const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555",
];

/// One colour a kind of operation: none that looks like a failure or an unknown outcome.
pub(crate) const KIND_COLOURS: [&str; 9] = [
    "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#5b4b8a", "#555555", "#8a6d3b", "#7fb800",
    "#1b998b",
];

/// One colour a class of faults, all pale: they lie behind.
pub(crate) const FAULT_COLOURS: [&str; 6] = [
    "#f6c9c0", "#f4e2b0", "#c9dff2", "#d9d2ec", "#cfe8d5", "#e3dcd3",
];

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 984.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 326.0;

/// How the vertical axis counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// From the first to the second.
    Linear(f64, f64),
    /// From the first to the second, both powers of ten.
    Log(f64, f64),
}

impl Scale {
    /// From zero to a round number above the values.
    pub(crate) fn above(values: impl IntoIterator<Item = f64>) -> Scale {
        let max = values.into_iter().fold(0.0, f64::max);
        let step = round_step(max / 4.0);
        Scale::Linear(0.0, (max / step).ceil().max(1.0) * step)
    }

    /// Powers of ten around the values, which are above zero.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>) -> Scale {
        let values = values.into_iter().filter(|value| *value > 0.0);
        let (low, high) = values.fold((f64::MAX, 0.0f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if high > 0.0 { (low, high) } else { (1.0, 10.0) };
        let floor = 10f64.powf(low.log10().floor());
        Scale::Log(floor, 10f64.powf(high.log10().ceil()).max(floor * 10.0))
    }

    fn place(self, value: f64) -> f64 {
        let part = match self {
            Scale::Linear(low, high) => (value - low) / (high - low),
            Scale::Log(low, high) => (value.max(low) / low).log10() / (high / low).log10(),
        };
        BOTTOM - part.clamp(0.0, 1.0) * (BOTTOM - TOP)
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Scale::Linear(low, high) => {
                let step = round_step((high - low) / 4.0);
                let count = ((high - low) / step).round();
                (0..=20)
                    .map(f64::from)
                    .take_while(|n| *n <= count)
                    .map(|n| low + n * step)
                    .collect()
            }
            Scale::Log(low, high) => {
                let decades = (high / low).log10().round();
                (0..=20)
                    .map(f64::from)
                    .take_while(|n| *n <= decades)
                    .map(|n| low * 10f64.powf(n))
                    .collect()
            }
        }
    }
}

/// A chart that is being drawn.
pub(crate) struct Chart {
    body: String,
    legend: Vec<(String, &'static str)>,
    seconds: f64,
    scale: Scale,
    title: String,
    unit: String,
    labels: BTreeMap<u64, String>,
    faults: Vec<Window>,
    /// Dots already drawn, in half pixels: many dots in one place are one dot.
    dots: BTreeSet<(u64, u64, &'static str)>,
}

impl Chart {
    /// An empty one over the whole of a run.
    pub(crate) fn new(history: &History, title: &str, unit: &str, scale: Scale) -> Chart {
        Chart {
            body: String::new(),
            legend: Vec::new(),
            seconds: (history.end_time() as f64 / 1e9).max(1e-3),
            scale,
            title: title.to_owned(),
            unit: unit.to_owned(),
            labels: BTreeMap::new(),
            faults: history.windows(),
            dots: BTreeSet::new(),
        }
    }

    /// Names a tick of the vertical axis; then only named ticks are shown.
    pub(crate) fn label(&mut self, value: u64, text: &str) {
        self.labels.insert(value, text.to_owned());
    }

    /// A line of the legend.
    pub(crate) fn key(&mut self, text: &str, colour: &'static str) {
        self.legend.push((text.to_owned(), colour));
    }

    fn x(&self, nanos: u64) -> f64 {
        LEFT + (nanos as f64 / 1e9 / self.seconds).min(1.0) * (RIGHT - LEFT)
    }

    /// A dot at a time.
    pub(crate) fn dot(&mut self, nanos: u64, value: f64, colour: &'static str, size: f64) {
        let (x, y) = (self.x(nanos), self.scale.place(value));
        if self.dots.insert((
            (x * 2.0).round().to_bits(),
            (y * 2.0).round().to_bits(),
            colour,
        )) {
            let _ = write!(
                self.body,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size}\" fill=\"{colour}\" fill-opacity=\".75\"/>"
            );
        }
    }

    /// A line through points in the order of time; a point alone is a dot.
    pub(crate) fn line(&mut self, points: &[(u64, f64)], colour: &'static str, width: f64) {
        if let [(nanos, value)] = points {
            return self.dot(*nanos, *value, colour, width);
        }
        let place = |(nanos, value): &(u64, f64)| {
            format!("{:.1},{:.1}", self.x(*nanos), self.scale.place(*value))
        };
        let points: Vec<String> = points.iter().map(place).collect();
        let _ = write!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"/>",
            points.join(" ")
        );
    }

    /// A thick bar from one time to another.
    pub(crate) fn bar(&mut self, from: u64, to: u64, value: f64, colour: &str, text: &str) {
        let (x, y) = (self.x(from), self.scale.place(value));
        let width = (self.x(to) - x).max(1.5);
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"18\" rx=\"3\" fill=\"{colour}\"/>",
            y - 9.0
        );
        // About seven units a letter; what does not fit is left out.
        if width > 8.0 * text.len() as f64 {
            let _ = write!(
                self.body,
                "<text x=\"{:.1}\" y=\"{:.1}\" class=\"in\">{text}</text>",
                x + width / 2.0,
                y + 4.5
            );
        }
    }

    /// Makes a part of a bar doubtful.
    pub(crate) fn hatch(&mut self, from: u64, to: u64, value: f64) {
        let (x, y) = (self.x(from), self.scale.place(value) - 9.0);
        let width = (self.x(to) - x).max(1.5);
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"18\" fill=\"url(#hatch)\"/>"
        );
    }

    /// The picture.
    pub(crate) fn finish(self) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\">\
             <style>text{{font:12px system-ui,'Segoe UI','DejaVu Sans',sans-serif;fill:#444}}\
             .title{{font-size:16px;font-weight:600;fill:#111}}.in{{fill:#fff;text-anchor:middle;font-weight:600}}\
             .r{{text-anchor:end}}.m{{text-anchor:middle}}</style>\
             <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
             <rect width=\"3\" height=\"6\" fill=\"#fff\" fill-opacity=\".7\"/></pattern></defs>\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
             <text x=\"{LEFT}\" y=\"26\" class=\"title\">{}</text>",
            escape(&self.title)
        );
        let faults = self.shades(&mut out);
        self.axes(&mut out);
        out.push_str(&self.body);
        self.keys(&mut out, &faults);
        out.push_str("</svg>\n");
        out
    }

    /// Shades the windows of faults; gives each class its colour.
    fn shades(&self, out: &mut String) -> Vec<(String, &'static str)> {
        let colours = fault_colours(&self.faults);
        for window in &self.faults {
            let (x, end) = (self.x(window.start), self.x(window.end));
            let colour = colours
                .iter()
                .find(|(name, _)| *name == window.fault)
                .map_or("#eee", |(_, colour)| *colour);
            let _ = write!(
                out,
                "<rect x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" fill-opacity=\".65\"/>",
                (end - x).max(1.0),
                BOTTOM - TOP
            );
            if let Some(ready) = window.ready {
                let _ = write!(
                    out,
                    "<rect x=\"{end:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" fill-opacity=\".3\"/>",
                    self.x(ready) - end,
                    BOTTOM - TOP
                );
            }
            if window.on_leader {
                let _ = write!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"3\" fill=\"#1c2430\"/>",
                    TOP - 3.0,
                    (end - x).max(1.0)
                );
            }
        }
        colours
    }

    fn axes(&self, out: &mut String) {
        let ticks = if self.labels.is_empty() {
            self.scale
                .ticks()
                .into_iter()
                .map(|value| (value, number(value)))
                .collect()
        } else {
            self.labels
                .iter()
                .map(|(value, text)| (*value as f64, text.clone()))
                .collect::<Vec<_>>()
        };
        for (value, text) in ticks {
            let y = self.scale.place(value);
            let _ = write!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#000\" stroke-opacity=\".09\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" class=\"r\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        let step = round_step(self.seconds / 8.0);
        let mut second = 0.0;
        while second <= self.seconds {
            let x = LEFT + second / self.seconds * (RIGHT - LEFT);
            let _ = write!(
                out,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{:.1}\" stroke=\"#999\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" class=\"m\">{} s</text>",
                BOTTOM + 5.0,
                BOTTOM + 20.0,
                number(second)
            );
            second += step;
        }
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\" stroke=\"#999\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" class=\"r\">{}</text>",
            LEFT - 8.0,
            TOP - 12.0,
            escape(&self.unit)
        );
    }

    fn keys(&self, out: &mut String, faults: &[(String, &'static str)]) {
        let mut x = LEFT;
        for (text, colour) in &self.legend {
            let _ = write!(
                out,
                "<circle cx=\"{:.1}\" cy=\"50\" r=\"5\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"54\">{}</text>",
                x + 5.0,
                x + 15.0,
                escape(text)
            );
            x += 34.0 + 7.0 * text.len() as f64;
        }
        let mut x = LEFT;
        for (text, colour) in faults {
            let _ = write!(
                out,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                BOTTOM + 32.0,
                x + 18.0,
                BOTTOM + 42.0,
                escape(text)
            );
            x += 38.0 + 7.0 * text.len() as f64;
        }
        if self.faults.iter().any(|window| window.on_leader) {
            let _ = write!(
                out,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"3\" fill=\"#1c2430\"/><text x=\"{:.1}\" y=\"{:.1}\">on the leader</text>",
                BOTTOM + 36.5,
                x + 20.0,
                BOTTOM + 42.0
            );
        }
    }
}

/// Each class of faults with its colour, in the order of their first installs.
pub(crate) fn fault_colours(windows: &[Window]) -> Vec<(String, &'static str)> {
    let mut classes: Vec<String> = Vec::new();
    for window in windows {
        if !classes.contains(&window.fault) {
            classes.push(window.fault.clone());
        }
    }
    classes
        .into_iter()
        .zip(FAULT_COLOURS.into_iter().cycle())
        .collect()
}

/// One, two or five times a power of ten, near to what is wanted.
fn round_step(wanted: f64) -> f64 {
    let power = 10f64.powf(wanted.max(1e-9).log10().floor());
    let part = wanted / power;
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| part <= *factor)
        .unwrap_or(10.0);
    factor * power
}

/// As short as it can be.
fn number(value: f64) -> String {
    if value >= 10_000.0 {
        return format!("{}k", number(value / 1000.0));
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text that is safe in XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
