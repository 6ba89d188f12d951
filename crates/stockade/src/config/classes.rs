//! `[environment]` and `[[class]]`: what environments may use, how long they live, where they may go and what they cost.

use serde::Deserialize;
use stockade_api::domain::{
    EnvironmentClass, Nanos, Network,
    inside::{Inside, System, User},
};

const MIB: u64 = 1024 * 1024;

/// Sizes, as far as somebody says them.
#[derive(Debug, Default, Deserialize)]
pub struct Sizes {
    pub memory_mib: Option<u64>,
    pub processes: Option<u64>,
    pub cpu_millis: Option<u64>,
    pub disk_mib: Option<u64>,
    pub open_files: Option<u64>,
}

/// One `[[class]]`. What is not said is as in `[environment]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    name: String,
    #[serde(default)]
    default: bool,
    memory_mib: Option<u64>,
    processes: Option<u64>,
    cpu_millis: Option<u64>,
    disk_mib: Option<u64>,
    open_files: Option<u64>,
    system: Option<System>,
    user: Option<User>,
    nested: Option<bool>,
    lifetime_seconds: Option<u64>,
    idle_seconds: Option<u64>,
    network: Option<Network>,
    price_per_hour: Option<String>,
    price_per_core_hour: Option<String>,
}

impl Sizes {
    fn are_said(&self) -> bool {
        [self.memory_mib, self.processes, self.cpu_millis, self.disk_mib, self.open_files].iter().any(Option::is_some)
    }

    fn on(&self, mut class: EnvironmentClass) -> EnvironmentClass {
        let set = |slot: &mut u64, value: Option<u64>, unit: u64| {
            if let Some(value) = value {
                *slot = value.saturating_mul(unit);
            }
        };
        set(&mut class.memory_bytes, self.memory_mib, MIB);
        set(&mut class.processes, self.processes, 1);
        set(&mut class.cpu_millis, self.cpu_millis, 1);
        set(&mut class.disk_bytes, self.disk_mib, MIB);
        set(&mut class.open_files, self.open_files, 1);
        class
    }
}

/// The classes of a configuration, the one that is used where nobody names one first. Where it says nothing, those that ship; where it says
/// sizes and no class, one of those sizes: nobody gets more than the operator said. `Err` says what is wrong.
pub fn read(sizes: &Sizes, inside: Inside, classes: Vec<Class>) -> Result<Vec<EnvironmentClass>, String> {
    if classes.is_empty() {
        let shipped = EnvironmentClass::shipped().into_iter().map(|class| EnvironmentClass { inside, ..class });
        return Ok(match sizes.are_said() {
            true => shipped.take(1).map(|standard| sizes.on(standard)).collect(),
            false => shipped.collect(),
        });
    }
    let defaults = classes.iter().filter(|class| class.default).count();
    if defaults > 1 {
        return Err(format!("{defaults} classes say `default`: one can be used where nobody names one"));
    }
    let default = classes.iter().position(|class| class.default).unwrap_or(0);
    let mut read = classes.into_iter().map(|class| one(sizes, inside, class)).collect::<Result<Vec<_>, _>>()?;
    let first = read.remove(default);
    read.insert(0, first);
    Ok(read)
}

fn one(sizes: &Sizes, inside: Inside, class: Class) -> Result<EnvironmentClass, String> {
    let dollars = |what: &str, text: Option<&String>| match text {
        Some(text) => text.parse::<Nanos>().map_err(|error| format!("the class `{}`: `{what}`: {error}", class.name)),
        None => Ok(Nanos::ZERO),
    };
    let price_per_hour = dollars("price_per_hour", class.price_per_hour.as_ref())?;
    let price_per_core_hour = dollars("price_per_core_hour", class.price_per_core_hour.as_ref())?;
    let own = Sizes {
        memory_mib: class.memory_mib,
        processes: class.processes,
        cpu_millis: class.cpu_millis,
        disk_mib: class.disk_mib,
        open_files: class.open_files,
    };
    let base = sizes.on(EnvironmentClass::standard());
    let inside = Inside {
        system: class.system.unwrap_or(inside.system),
        user: class.user.unwrap_or(inside.user),
        nested: class.nested.unwrap_or(inside.nested),
    };
    Ok(EnvironmentClass {
        name: class.name,
        inside,
        lifetime_seconds: class.lifetime_seconds,
        idle_seconds: class.idle_seconds,
        network: class.network.unwrap_or(Network::Policy),
        price_per_hour,
        price_per_core_hour,
        ..own.on(base)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        environment: Sizes,
        #[serde(default)]
        class: Vec<Class>,
    }

    fn classes(text: &str) -> Result<Vec<EnvironmentClass>, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let inside = Inside { system: System::Overlay, ..Inside::default() };
        read(&file.environment, inside, file.class)
    }

    fn names(text: &str) -> Vec<String> {
        classes(text).unwrap().into_iter().map(|class| class.name).collect()
    }

    #[test]
    fn limits_have_their_units_and_a_class_has_what_environments_have_unless_it_says_otherwise() {
        let text = "[environment]\nmemory_mib = 300\nprocesses = 70\n\n[[class]]\nname = \"slim\"\ncpu_millis = 500\n\
                    lifetime_seconds = 60\nidle_seconds = 5\nnetwork = \"gateway\"\nuser = \"root\"\nprice_per_hour = \"0.05\"\n";
        let [class] = &classes(text).unwrap()[..] else { panic!() };
        assert_eq!((class.memory_bytes, class.processes, class.cpu_millis), (300 * MIB, 70, 500));
        assert_eq!((class.inside.system, class.inside.user, class.inside.nested), (System::Overlay, User::Root, false));
        assert_eq!(class.disk_bytes, EnvironmentClass::standard().disk_bytes);
        assert_eq!((class.lifetime_seconds, class.idle_seconds, class.network), (Some(60), Some(5), Network::Gateway));
        assert_eq!((class.price_per_hour, class.price_per_core_hour), (Nanos(50_000_000), Nanos::ZERO));
    }

    #[test]
    fn the_default_comes_first_and_what_nobody_declares_is_as_it_ships_or_no_larger_than_said() {
        assert_eq!(names(""), ["standard", "small", "large"]);
        assert_eq!(names("[environment]\nmemory_mib = 300\n"), ["standard"]);
        assert_eq!(names("[[class]]\nname = \"a\"\n[[class]]\nname = \"b\"\n"), ["a", "b"]);
        assert_eq!(names("[[class]]\nname = \"a\"\n[[class]]\nname = \"b\"\ndefault = true\n"), ["b", "a"]);
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (text, word) in [
            ("[[class]]\nname = \"a\"\nmemory_mb = 5\n", "memory_mb"),
            ("[[class]]\nname = \"a\"\nnetwork = \"open\"\n", "network"),
            ("[[class]]\nname = \"a\"\nprice_per_hour = \"cheap\"\n", "price_per_hour"),
            ("[[class]]\nname = \"a\"\nprice_per_hour = \"-1\"\n", "price_per_hour"),
            ("[[class]]\nname = \"a\"\ndefault = true\n[[class]]\nname = \"b\"\ndefault = true\n", "default"),
            ("[[class]]\nmemory_mib = 5\n", "name"),
        ] {
            let error = classes(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
