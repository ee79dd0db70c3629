//! Bars as inline SVG: one plot per scenario and measure, a bar per broker.

use std::fmt::Write;

use super::html::escaped;
use super::number;

/// Width of the plot, of the names left of the bars, and of the figures right of them, in pixels.
const WIDTH: f64 = 460.0;
const NAMES: f64 = 130.0;
const FIGURES: f64 = 90.0;
/// Height of a bar and from one bar to the next.
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;

/// A bar: the broker's name and its figure, if there is one; ours stands out.
pub(super) struct Bar<'a> {
    pub name: &'a str,
    pub value: Option<f64>,
    pub ours: bool,
}

/// The plot. Its title and all figures are text in it, for those who listen to it.
pub(super) fn bars(title: &str, bars: &[Bar<'_>]) -> String {
    let most = bars.iter().filter_map(|bar| bar.value).fold(0.0, f64::max);
    let rows = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let height = f64::from(rows) * STEP;
    let title = escaped(title);
    let mut svg = format!(
        "<figure><figcaption>{title}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">"
    );
    for (bar, place) in bars.iter().zip(0_u32..) {
        let top = f64::from(place) * STEP;
        let text = top + BAR - 4.0;
        let share = bar.value.filter(|_| most > 0.0).map_or(0.0, |v| v / most);
        let length = (share * (WIDTH - NAMES - FIGURES)).max(1.0);
        let class = if bar.ours { "ours" } else { "theirs" };
        let figure = bar.value.map_or_else(|| "failed".to_owned(), number);
        let _ = write!(
            svg,
            "<text x=\"{x}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{NAMES}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\"/>\
             <text x=\"{after:.1}\" y=\"{text}\">{figure}</text>",
            x = NAMES - 8.0,
            name = escaped(bar.name),
            after = NAMES + length + 6.0,
        );
    }
    svg.push_str("</svg></figure>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_width_and_the_others_are_in_proportion() {
        let bar = |name, value, ours| Bar { name, value, ours };
        let svg = bars(
            "rate",
            &[
                bar("a", Some(100.0), true),
                bar("b<", Some(50.0), false),
                bar("c", None, false),
            ],
        );
        assert!(svg.contains("class=\"ours\" x=\"130\" y=\"0\" width=\"240.0\""));
        assert!(svg.contains("class=\"theirs\" x=\"130\" y=\"22\" width=\"120.0\""));
        assert!(svg.contains("b&lt;") && svg.contains("failed"));
    }

    #[test]
    fn nothing_at_all_is_drawn_without_dividing_by_it() {
        let svg = bars(
            "rate",
            &[Bar {
                name: "a",
                value: Some(0.0),
                ours: true,
            }],
        );
        assert!(!svg.contains("NaN"));
    }
}
