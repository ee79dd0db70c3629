//! A page that needs nothing but itself: the conditions, targets, and per scenario plots and figures.

use std::fmt::Write;

use super::plot::{self, Bar};
use super::table::{LEGEND, faults, figures, head};
use super::targets::{Check, Verdict};
use super::{Conditions, count_in_words, count_or_dash, mebibytes, number_or_dash, ratio_to};
use crate::bench::brokers::OURS;
use crate::bench::compare::{Comparison, RowResult};
use crate::bench::measure::{Measure, Runs};

/// Colours follow what the reader's system has; both sets have a contrast of at least 4.5.
const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--ours:#0969da;--theirs:#8c959f;--bad:#b3261e;--good:#1a7f37}\
@media(prefers-color-scheme:dark){:root{--ground:#0d1117;--ink:#e6edf3;--soft:#9da7b3;--line:#30363d;--ours:#58a6ff;--theirs:#6e7681;--bad:#ff7b72;--good:#3fb950}}\
body{background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.5rem;border-top:1px solid var(--line);padding-top:1rem}\
p,li{color:var(--soft)}.scroll{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}\
caption{text-align:left;color:var(--soft);padding-bottom:.3rem}\
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid var(--line)}th[scope=row],.words{text-align:left}\
td.words{white-space:normal}.bad{color:var(--bad);font-weight:600}.good{color:var(--good)}\
.plots{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:.5rem 0;flex:1 1 22rem;max-width:32rem}figcaption{color:var(--soft)}\
svg{width:100%;font:12px system-ui,sans-serif;fill:var(--ink)}.ours{fill:var(--ours)}.theirs{fill:var(--theirs)}\
a{color:var(--ours)}";

/// The page.
pub fn html(comparison: &Comparison, conditions: &Conditions, checks: &[Check]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Brokers compared</title><style>{STYLE}</style></head>\n<body><main>\
         <h1>Brokers compared</h1>\n<ul>"
    );
    for line in head(comparison, conditions) {
        let _ = write!(page, "<li>{}</li>", escaped(&line));
    }
    page.push_str("</ul>\n");
    for line in LEGEND.lines() {
        let _ = writeln!(page, "<p>{}</p>", escaped(line));
    }
    if !checks.is_empty() {
        page.push_str(&targets(checks));
    }
    for row in &comparison.rows {
        page.push_str(&section(comparison, row));
    }
    page.push_str("</main></body></html>\n");
    page
}

fn targets(checks: &[Check]) -> String {
    let mut part =
        "<h2>Targets</h2><div class=\"scroll\"><table><caption>What is aimed at, and what \
                    came of it</caption><thead><tr><th scope=\"col\" class=\"words\">scenario</th>\
                    <th scope=\"col\" class=\"words\">target</th><th scope=\"col\">measured</th>\
                    <th scope=\"col\" class=\"words\">verdict</th></tr></thead><tbody>\n"
            .to_owned();
    for check in checks.iter().filter(|c| c.verdict != Verdict::Open) {
        let class = match check.verdict {
            Verdict::Met => "words good",
            Verdict::Missed => "words bad",
            Verdict::Open => "words",
        };
        let _ = writeln!(
            part,
            "<tr><th scope=\"row\">{}</th><td class=\"words\">{}</td><td>{}</td>\
             <td class=\"{class}\">{}</td></tr>",
            escaped(check.scenario),
            escaped(&check.says),
            number_or_dash(check.value),
            check.verdict
        );
    }
    part.push_str("</tbody></table></div>\n");
    part
}

/// A scenario: plots side by side, the figures below them, and what went wrong.
fn section(comparison: &Comparison, row: &RowResult) -> String {
    let name = row.row.name();
    let mut part = format!(
        "<h2 id=\"{0}\">{0}</h2>\n<div class=\"plots\">",
        escaped(&name)
    );
    for (title, measure) in plots(comparison, row) {
        let bars: Vec<Bar<'_>> = comparison
            .entries(row)
            .map(|(broker, runs)| Bar {
                name: &broker.name,
                value: runs.figure(&measure),
                ours: broker.name == OURS,
            })
            .collect();
        if bars.iter().any(|bar| bar.value.is_some()) {
            part.push_str(&plot::bars(&title, &bars));
        }
    }
    part.push_str("</div>\n<div class=\"scroll\"><table><caption>");
    part.push_str(&escaped(&name));
    part.push_str("</caption><thead><tr><th scope=\"col\" class=\"words\">broker</th>");
    for title in TITLES {
        let _ = write!(part, "<th scope=\"col\">{title}</th>");
    }
    part.push_str("</tr></thead><tbody>\n");
    for (broker, runs) in comparison.entries(row) {
        part.push_str(&line(comparison, row, &broker.name, runs));
    }
    part.push_str("</tbody></table></div>\n<ul>");
    for (broker, runs) in comparison.entries(row) {
        for note in figures(comparison, row, (&broker.name, runs))
            .into_iter()
            .chain(faults(runs))
        {
            let _ = write!(
                part,
                "<li>{}: {}</li>",
                escaped(&broker.name),
                escaped(&note)
            );
        }
    }
    part.push_str("</ul>\n");
    part
}

/// What is plotted: what every scenario has, or else what this one has of its own.
fn plots(comparison: &Comparison, row: &RowResult) -> Vec<(String, Measure)> {
    let mut plots = vec![
        (
            "delivered messages per second, more is better".to_owned(),
            Measure::Throughput,
        ),
        (
            "broker CPU microseconds per message, less is better".to_owned(),
            Measure::Cpu,
        ),
        (
            "p99 latency in microseconds, less is better".to_owned(),
            Measure::P99,
        ),
    ];
    let mut names: Vec<&str> = Vec::new();
    for name in comparison
        .entries(row)
        .flat_map(|(_, runs)| runs.figure_names())
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let own = names
        .into_iter()
        .map(|name| (name.to_owned(), Measure::Figure(name.to_owned().into())));
    plots.extend(own);
    plots
}

const TITLES: [&str; 12] = [
    "msgs/s", "CPU us", "p50 us", "p99 us", "p99.9 us", "MiB", "lost", "doubled", "msgs/s x",
    "CPU x", "p50 x", "p99 x",
];

fn line(comparison: &Comparison, row: &RowResult, name: &str, runs: &Runs) -> String {
    let mut line = format!("<tr><th scope=\"row\">{}</th>", escaped(name));
    let mark = if runs.generator_was_the_bottleneck() {
        "*"
    } else {
        ""
    };
    let throughput = number_or_dash(runs.figure(&Measure::Throughput));
    let _ = write!(line, "<td>{throughput}{mark}</td>");
    for measure in [Measure::Cpu, Measure::P50, Measure::P99, Measure::P999] {
        let _ = write!(line, "<td>{}</td>", number_or_dash(runs.figure(&measure)));
    }
    let _ = write!(
        line,
        "<td>{}</td>",
        mebibytes(runs.figure(&Measure::PeakMemory))
    );
    for measure in [Measure::Lost, Measure::Doubled] {
        let _ = match runs.figure(&measure) {
            Some(count) if count > 0.0 => {
                write!(line, "<td class=\"bad\">{}</td>", count_in_words(count))
            }
            count => write!(line, "<td>{}</td>", count_or_dash(count)),
        };
    }
    for measure in [
        Measure::Throughput,
        Measure::Cpu,
        Measure::P50,
        Measure::P99,
    ] {
        let ratio = ratio_to(comparison, row, (name, runs), &measure);
        let _ = write!(line, "<td>{}</td>", number_or_dash(ratio));
    }
    line.push_str("</tr>\n");
    line
}

/// Text that stands in HTML, between tags or in a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::targets;
    use super::super::tests::{conditions, made_up};
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escaped("<a href=\"x\">&'"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;"
        );
        assert_eq!(escaped("50 % faster, naïve"), "50 % faster, naïve");
    }

    #[test]
    fn the_page_needs_nothing_but_itself() {
        let comparison = made_up("pairs-qos1-64B-w20-tcp");
        let checks = targets::check(&comparison);
        let page = html(&comparison, &conditions(), &checks);
        for foreign in [
            "http:", "https:", "src=", "<link", "<script", "@import", "url(",
        ] {
            assert!(!page.contains(foreign), "{foreign} in the page");
        }
        for part in ["Some &amp; CPU", "it &lt;ended&gt;", "<svg", "1,000,000"] {
            assert!(page.contains(part), "{part} is missing");
        }
        for tag in ["table", "svg", "ul", "tr", "figure", "div", "main"] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
