//! Classes of environments, and what environments use in words.

use stockade_api::{
    domain::{
        EnvironmentUsage, Nanos,
        inside::{System, User},
    },
    http::{Class, ListClasses, Page},
};

use super::{Context, projects};
use crate::{args, failure::Outcome, output::table};

pub async fn main(context: &Context, command: args::Classes) -> Outcome {
    let args::Classes::List { project } = command;
    let client = context.client()?;
    let project = match project {
        Some(word) => Some(projects::find(&client, &word).await?.id),
        None => None,
    };
    context.output.show(&client.classes(&ListClasses { project }).await?, list)
}

fn list(page: &Page<Class>) -> String {
    let rows = page.items.iter().map(|class| {
        [
            if class.default { format!("{} *", class.name) } else { class.name.clone() },
            cores(class.cpu_millis),
            bytes(class.memory_bytes),
            bytes(class.disk_bytes),
            class.processes.to_string(),
            class.open_files.to_string(),
            class.lifetime_seconds.map_or_else(|| "-".to_owned(), |seconds| time_ms(seconds.saturating_mul(1_000))),
            class.idle_seconds.map_or_else(|| "-".to_owned(), |seconds| time_ms(seconds.saturating_mul(1_000))),
            class.network.to_string(),
            inside(class),
            price(class),
        ]
    });
    table(
        [
            "name",
            "cores",
            "memory",
            "disk",
            "processes",
            "open files",
            "lifetime",
            "idle stop",
            "network",
            "inside",
            "price",
        ],
        rows,
    )
}

fn inside(class: &Class) -> String {
    let said =
        [(class.system == System::Overlay, "overlay"), (class.user == User::Root, "root"), (class.nested, "nested")];
    let said: Vec<&str> = said.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
    if said.is_empty() { "-".to_owned() } else { said.join(", ") }
}

fn price(class: &Class) -> String {
    let parts = [("an hour", class.price_per_hour), ("a core hour", class.price_per_core_hour)];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(_, price)| *price > Nanos::ZERO)
        .map(|(what, price)| format!("{price} {what}"))
        .collect();
    if said.is_empty() { "-".to_owned() } else { said.join(" + ") }
}

/// What environments have used, for `show`.
pub fn used(usage: &EnvironmentUsage) -> Vec<(&'static str, String)> {
    let average = u128::from(usage.memory_byte_seconds) * 1_000 / u128::from(usage.running_ms.max(1));
    let average = u64::try_from(average).unwrap_or(u64::MAX);
    vec![
        ("ran", time_ms(usage.running_ms)),
        ("processor", time_ms(usage.cpu_ms)),
        ("memory", format!("{} at most, {} on average", bytes(usage.memory_peak_bytes), bytes(average))),
        ("disk", format!("{} at most", bytes(usage.disk_peak_bytes))),
        ("network", format!("{} out, {} in", bytes(usage.bytes_out), bytes(usage.bytes_in))),
    ]
}

fn cores(millis: u64) -> String {
    let (whole, part) = (millis / 1_000, millis % 1_000);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:03}").trim_end_matches('0').to_owned() }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut tenths, mut unit) = (u128::from(count) * 10, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if tenths % 10 == 0 || unit == 0 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

fn time_ms(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}.{} s", ms % 1_000 / 100).replace(".0 s", " s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60).replace(" 0 s", ""),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60).replace(" 0 min", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_people_say_them() {
        assert_eq!(
            [0, 1_023, 1_536, 4 << 30, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "4 GiB", "16777215.9 TiB"]
        );
        assert_eq!(
            [0, 1_500, 60_000, 61_000, 3_600_000, 90_061_000].map(time_ms),
            ["0 s", "1.5 s", "1 min", "1 min 1 s", "1 h", "25 h 1 min"]
        );
        assert_eq!([500, 2_000, 1_250].map(cores), ["0.5", "2", "1.25"]);
    }
}
