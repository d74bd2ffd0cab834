//! The plots of the report, one panel for each interpreter.

use std::path::Path;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::figures::{Benchmark, OURS, Run};

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

const PANEL: (u32, u32) = (560, 360);
const OUR_COLOR: RGBColor = RGBColor(0xd9, 0x5f, 0x02);
const PEER_COLOR: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
/// For the lines of peers: distinct for people who do not see all colours (Okabe and Ito, 2008).
const LINES: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x70, 0x70, 0x70),
    RGBColor(0xb8, 0x9c, 0x00),
    RGBColor(0x00, 0x00, 0x00),
];

fn color(name: &str, place: usize) -> RGBColor {
    if name == OURS {
        OUR_COLOR
    } else {
        LINES[place % LINES.len()]
    }
}

/// A bar for each subject.
pub(super) fn bars(file: &Path, name: &str, of_all: &[(&Run, &Benchmark)]) -> anyhow::Result<()> {
    let draw = || -> Drawn {
        let width = PANEL.0 * u32::try_from(of_all.len())?;
        let longest = of_all.iter().map(|(_, benchmark)| benchmark.subjects.len());
        let height = 60 + 26 * u32::try_from(longest.max().unwrap_or(0))?;
        let root = SVGBackend::new(file, (width, height)).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, (run, benchmark)) in root.split_evenly((1, of_all.len())).iter().zip(of_all) {
            let title = format!("{name}, {}", run.interpreter);
            panel.draw(&Text::new(title, (10, 10), ("sans-serif", 15)))?;
            let figures = benchmark.subjects.iter().map(|one| benchmark.figure(one));
            let most = figures.fold(0.0, f64::max);
            let labels = ("sans-serif", 12).into_font();
            let right = TextStyle::from(labels.clone()).pos(Pos::new(HPos::Right, VPos::Center));
            let left = TextStyle::from(labels).pos(Pos::new(HPos::Left, VPos::Center));
            for (row, subject) in (0_i32..).zip(&benchmark.subjects) {
                let middle = 50 + 26 * row;
                let figure = benchmark.figure(subject);
                let length = (figure / most * 260.0) as i32;
                let bar = [(210, middle - 9), (210 + length.max(1), middle + 9)];
                let color = if subject.name.starts_with(OURS) {
                    OUR_COLOR
                } else {
                    PEER_COLOR
                };
                panel.draw(&Text::new(
                    subject.name.clone(),
                    (204, middle),
                    right.clone(),
                ))?;
                panel.draw(&Rectangle::new(bar, color.filled()))?;
                panel.draw(&Text::new(
                    nanoseconds(figure),
                    (216 + length, middle),
                    left.clone(),
                ))?;
            }
        }
        Ok(root.present()?)
    };
    draw().map_err(anyhow::Error::from_boxed)
}

/// A line for each subject, over the number of threads.
pub(super) fn threads(file: &Path, family: &str, runs: &[Run]) -> anyhow::Result<()> {
    let draw = || -> Drawn {
        let points: Vec<(&Run, Vec<(u32, &Benchmark)>)> = runs
            .iter()
            .map(|run| {
                let related = run.benchmarks.iter().filter_map(|benchmark| {
                    let (of, threads) = benchmark.family()?;
                    (of == family).then_some((threads, benchmark))
                });
                (run, related.collect())
            })
            .filter(|(_, points): &(_, Vec<_>)| !points.is_empty())
            .collect();
        let width = PANEL.0 * u32::try_from(points.len())?;
        let root = SVGBackend::new(file, (width, PANEL.1)).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, (run, points)) in root.split_evenly((1, points.len())).iter().zip(&points) {
            let figures = points.iter().flat_map(|(_, benchmark)| {
                benchmark.subjects.iter().map(|one| benchmark.figure(one))
            });
            let most = figures.fold(0.0, f64::max);
            let number = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
            let mut chart = ChartBuilder::on(panel)
                .caption(format!("{family}, {}", run.interpreter), ("sans-serif", 15))
                .margin(10)
                .margin_right(20)
                .x_label_area_size(36)
                .y_label_area_size(56)
                // Room for the legend beside the lines.
                .build_cartesian_2d(-0.2..number(points.len()) + 0.4, 0.0..most * 1.1)?;
            let threads_at = |x: &f64| {
                let is_whole = (x - x.round()).abs() < 0.01;
                let point = points.get(x.round() as usize).filter(|_| is_whole);
                point.map_or(String::new(), |(threads, _)| threads.to_string())
            };
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(points.len() * 5)
                .x_label_formatter(&threads_at)
                .x_desc("threads")
                .y_desc("ns per operation")
                .light_line_style(WHITE)
                .draw()?;
            for (place, subject) in points[0].1.subjects.iter().enumerate() {
                let color = color(&subject.name, place);
                let stroke = color.stroke_width(if subject.name == OURS { 3 } else { 1 });
                let line = || {
                    points.iter().enumerate().filter_map(|(x, (_, benchmark))| {
                        Some((number(x), benchmark.of(&subject.name)?))
                    })
                };
                chart
                    .draw_series(LineSeries::new(line(), stroke))?
                    .label(&subject.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], stroke));
                let dots = line().map(|point| Circle::new(point, 3, color.filled()));
                chart.draw_series(dots)?;
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::MiddleRight)
                .background_style(WHITE.mix(0.8))
                .draw()?;
        }
        Ok(root.present()?)
    };
    draw().map_err(anyhow::Error::from_boxed)
}

fn nanoseconds(figure: f64) -> String {
    if figure < 1000.0 {
        format!("{figure:.2} ns")
    } else {
        format!("{:.2} \u{b5}s", figure / 1000.0)
    }
}
