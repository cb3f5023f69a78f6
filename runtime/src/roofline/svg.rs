//! The picture: operations for each byte against operations per second, both on logarithmic axes. Under the slope of the
//! roof lies what memory bounds, under its flat part what arithmetic does. The area of a point is its share of the step.

use std::fmt::Write as _;

use super::{Group, Roofline};

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 76.0;
const TOP: f64 = 52.0;
/// Where the axes end and the legend begins.
const RIGHT: f64 = 560.0;
const BOTTOM: f64 = 476.0;

/// Colours that the reader's scheme chooses; a viewer that knows no schemes shows the light ones.
const STYLE: &str = "svg{--ink:#1b1f24;--paper:#ffffff;--faint:#d0d7de;--mark:#0969da;--roof:#bc4c00}\
@media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--paper:#0d1117;--faint:#30363d;--mark:#58a6ff;--roof:#f0883e}}\
text{font:12px system-ui,sans-serif;fill:var(--ink)}.title{font-size:15px;font-weight:600}\
.paper{fill:var(--paper)}.grid{stroke:var(--faint);stroke-width:1}.roof{stroke:var(--roof);stroke-width:2;fill:none}\
.point{fill:var(--mark);fill-opacity:.35;stroke:var(--mark)}.number{font-weight:600;text-anchor:middle}\
.end{text-anchor:end}.middle{text-anchor:middle}";

/// An axis: whole powers of ten from `low` to `high` on the pixels `from` to `to`.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    /// The axis that shows all of these positive values, over two powers of ten at least.
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let logs = values.filter(|value| *value > 0.0).map(f64::log10);
        let low = logs.clone().fold(f64::INFINITY, f64::min).floor();
        let high = logs.fold(f64::NEG_INFINITY, f64::max).ceil();
        let (low, high) =
            if low.is_finite() && high.is_finite() { (low as i32, high as i32) } else { (0, 2) };
        Self { low, high: high.max(low + 2), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + part * (self.to - self.from)
    }

    fn ends(&self) -> (f64, f64) {
        (10f64.powi(self.low), 10f64.powi(self.high))
    }
}

impl Roofline {
    /// The picture as an SVG document, for light and dark surroundings. Families without operations are in the legend
    /// alone, since the axes have no place for nothing.
    pub fn svg(&self) -> String {
        let families = self.families();
        let shown: Vec<&Group> =
            families.iter().filter(|group| group.operations_per_second() > 0.0).collect();
        let (slope, flat) = (self.roof.bytes_per_second, self.roof.operations_per_second);
        // The ridge, where the two parts of the roof meet.
        let ridge = flat.map(|flat| flat / slope);
        let x = Axis::over(shown.iter().map(|group| group.intensity()).chain(ridge), LEFT, RIGHT);
        let y_values = shown.iter().map(|group| group.operations_per_second());
        let reached = shown.iter().map(|group| group.intensity() * slope);
        let y = Axis::over(y_values.chain(reached).chain(flat), BOTTOM, TOP);
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.draw(&mut out, &families, x, y);
        out
    }

    fn draw(&self, out: &mut String, families: &[Group], x: Axis, y: Axis) -> std::fmt::Result {
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">"
        )?;
        let title = format!("{} on {}, {} positions", self.model, self.gpu, self.context);
        writeln!(out, "<title>Roofline: {}</title>\n<style>{STYLE}</style>", escape(&title))?;
        writeln!(out, "<rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>")?;
        writeln!(out, "<text class=\"title\" x=\"{LEFT}\" y=\"28\">{}</text>", escape(&title))?;
        grid(out, x, y)?;
        self.draw_roof(out, x, y)?;
        let step: f64 = families.iter().map(|group| group.added).sum();
        let points = families.iter().enumerate().filter(|(_, group)| group.operations_per_second() > 0.0);
        for (index, group) in points {
            let (cx, cy) = (x.at(group.intensity()), y.at(group.operations_per_second()));
            let share = if step > 0.0 { group.added / step } else { 0.0 };
            let r = 5.0 + 22.0 * share.sqrt();
            writeln!(out, "<circle class=\"point\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{r:.1}\"/>")?;
            let number = index + 1;
            writeln!(out, "<text class=\"number\" x=\"{cx:.1}\" y=\"{:.1}\">{number}</text>", cy + 4.0)?;
        }
        for (index, group) in families.iter().enumerate() {
            let (top, number) = (TOP + 8.0 + 38.0 * index as f64, index + 1);
            let left = RIGHT + 24.0;
            writeln!(out, "<text x=\"{left}\" y=\"{top}\">{number}  {}</text>", escape(&group.name))?;
            let share = 100.0 * self.share_of_roof(group);
            let (micros, rate) = (group.added, group.bytes_per_second() / 1e12);
            writeln!(
                out,
                "<text x=\"{left}\" y=\"{}\">{micros:.1} us, {rate:.2} TB/s, {share:.0} %</text>",
                top + 15.0
            )?;
        }
        out.push_str("</svg>\n");
        Ok(())
    }

    /// The slope up to the ridge or the frame, and the flat part.
    fn draw_roof(&self, out: &mut String, x: Axis, y: Axis) -> std::fmt::Result {
        let slope = self.roof.bytes_per_second;
        let ((left, right), (bottom, top)) = (x.ends(), y.ends());
        let ceiling = self.roof.operations_per_second.unwrap_or(top).min(top);
        let (from, to) = (left.max(bottom / slope), right.min(ceiling / slope));
        let mut points = String::new();
        for intensity in [from, to] {
            write!(points, "{:.1},{:.1} ", x.at(intensity), y.at(intensity * slope))?;
        }
        if self.roof.operations_per_second.is_some() && to < right {
            write!(points, "{:.1},{:.1}", x.at(right), y.at(ceiling))?;
        }
        writeln!(out, "<polyline class=\"roof\" points=\"{}\"/>", points.trim_end())?;
        let middle = (from * to).sqrt();
        let (at_x, at_y) = (x.at(middle) - 10.0, y.at(middle * slope) - 10.0);
        writeln!(out, "<text class=\"end\" x=\"{at_x:.1}\" y=\"{at_y:.1}\">{:.2} TB/s</text>", slope / 1e12)?;
        if let Some(flat) = self.roof.operations_per_second {
            let at = y.at(ceiling) - 6.0;
            writeln!(
                out,
                "<text class=\"end\" x=\"{RIGHT}\" y=\"{at:.1}\">{:.1} Top/s in f32</text>",
                flat / 1e12
            )?;
        }
        Ok(())
    }
}

/// Lines and labels of the powers of ten, and what the axes are.
fn grid(out: &mut String, x: Axis, y: Axis) -> std::fmt::Result {
    for power in x.low..=x.high {
        let at = x.at(10f64.powi(power));
        writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\"/>\
             <text class=\"middle\" x=\"{at:.1}\" y=\"{}\">{}</text>",
            BOTTOM + 18.0,
            power_of_ten(power)
        )?;
    }
    for power in y.low..=y.high {
        let at = y.at(10f64.powi(power));
        writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\"/>\
             <text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            power_of_ten(power)
        )?;
    }
    let (middle, below) = ((LEFT + RIGHT) / 2.0, BOTTOM + 40.0);
    writeln!(out, "<text class=\"middle\" x=\"{middle}\" y=\"{below}\">operations for each byte</text>")?;
    let height = (TOP + BOTTOM) / 2.0;
    writeln!(
        out,
        "<text class=\"middle\" transform=\"translate(20 {height}) rotate(-90)\">operations per second</text>"
    )
}

/// `0.01` to `100`, and powers of thousand by their letters.
fn power_of_ten(power: i32) -> String {
    match power {
        ..0 => format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power)),
        0..3 => 10i32.pow(power as u32).to_string(),
        _ => {
            let letters = ["", " k", " M", " G", " T", " P", " E"];
            match letters.get(power as usize / 3) {
                Some(letter) => format!("{}{letter}", 10i32.pow(power as u32 % 3)),
                None => format!("1e{power}"),
            }
        }
    }
}

/// Text as XML has it. What no document may contain becomes a question mark.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
