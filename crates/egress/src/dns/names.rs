//! One environment's table of names and the addresses that stand for them: [`Names`].
//!
//! It refuses to forget and to give an address twice: as long as the environment lives an address means one name, so a program
//! that keeps an address for hours never reaches something else. It refuses tunnels by counting: data that is written into
//! names needs many of them below one that its receiver owns.
//!
//! *Invariant:* the place of a name is the order in which names were asked for. It depends on nothing outside the
//! environment, so it tells one environment nothing about another.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    address::{OUR_V4, ours, ours_v6},
    name::Name,
};

/// The most names of one environment. At the bound new ones are answered SERVFAIL.
pub const MAX_NAMES: usize = 4_096;

/// The most names that end in the same two labels. At the bound new ones are answered REFUSED.
///
/// Two labels are what is registered under most top-level domains; where it takes three (`co.uk`) those share the budget.
pub const MAX_NAMES_BELOW: usize = 256;

/// The first place that a name gets: what is before it (198.18.0.0/24) is for the runner itself, its resolver and gateway.
const FIRST_PLACE: u32 = 256;

/// How many last labels make a parent.
const PARENT_LABELS: usize = 2;

/// The addresses that stand for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// In 198.18.0.0/15.
    pub v4: Ipv4Addr,
    /// In our range of unique local addresses, with the IPv4 address at its end.
    pub v6: Ipv6Addr,
}

/// Why a new name gets no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Turned {
    /// [`MAX_NAMES_BELOW`].
    #[error(
        "more than {MAX_NAMES_BELOW} names below `{parent}` were asked for, as by a program that writes data into names"
    )]
    Crowded {
        /// The last two labels.
        parent: String,
        /// Whether it is the first name below this parent that is turned away: the one to record.
        first: bool,
    },
    /// [`MAX_NAMES`].
    #[error("more than {MAX_NAMES} names were asked for in this environment; a new environment begins with none")]
    Full {
        /// Whether it is the first that is turned away for this: the one to record.
        first: bool,
    },
}

/// Names below one parent.
#[derive(Debug, Default)]
struct Below {
    given: usize,
    turned: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Names {
    places: HashMap<Name, usize>,
    names: Vec<Name>,
    below: HashMap<Box<str>, Below>,
    crowded: u64,
    full: u64,
}

impl Names {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The addresses of a name; a new name gets its own.
    pub fn give(&mut self, name: &Name) -> Result<Addresses, Turned> {
        if let Some(place) = self.places.get(name) {
            return Ok(addresses(*place));
        }
        let parent = name.last_labels(PARENT_LABELS);
        let full = self.names.len() >= MAX_NAMES;
        match self.below.get_mut(parent) {
            Some(below) if below.given >= MAX_NAMES_BELOW => {
                below.turned = below.turned.saturating_add(1);
                self.crowded = self.crowded.saturating_add(1);
                return Err(Turned::Crowded { parent: parent.to_owned(), first: below.turned == 1 });
            }
            _ if full => {
                self.full = self.full.saturating_add(1);
                return Err(Turned::Full { first: self.full == 1 });
            }
            Some(below) => below.given += 1,
            None => {
                self.below.insert(parent.into(), Below { given: 1, turned: 0 });
            }
        }
        let place = self.names.len();
        self.places.insert(name.clone(), place);
        self.names.push(name.clone());
        Ok(addresses(place))
    }

    /// The addresses of a name that was asked for before.
    pub fn addresses_of(&self, name: &Name) -> Option<Addresses> {
        self.places.get(name).map(|place| addresses(*place))
    }

    /// The name that an address of either family stands for, also as a socket of both families sees it. None for what was
    /// never given out here, in whatever other environment it may have been.
    pub fn name_of(&self, address: IpAddr) -> Option<&Name> {
        let place = OUR_V4.place(ours(address)?)?.checked_sub(FIRST_PLACE)?;
        self.names.get(usize::try_from(place).ok()?)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many questions for new names were turned away, as they stood below a crowded parent and as the table was full.
    pub fn turned_away(&self) -> (u64, u64) {
        (self.crowded, self.full)
    }
}

/// *Invariant:* a place is below [`MAX_NAMES`], and the range has room for all of them.
fn addresses(place: usize) -> Addresses {
    const { assert!(MAX_NAMES as u64 + FIRST_PLACE as u64 <= 1 << 17) };
    let v4 = OUR_V4.at(FIRST_PLACE.saturating_add(u32::try_from(place).unwrap_or(u32::MAX)));
    Addresses { v4, v6: ours_v6(v4) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_name_keeps_its_addresses_and_they_lead_back_to_it() {
        let mut names = Names::new();
        let first = names.give(&name("example.com")).unwrap();
        assert_eq!(first.v4, Ipv4Addr::new(198, 18, 1, 0));
        assert_eq!(first.v6, "fd6a:2c8c:6149::198.18.1.0".parse::<Ipv6Addr>().unwrap());
        let second = names.give(&name("a.example.com")).unwrap();
        assert_ne!(first, second);
        assert_eq!(names.give(&name("EXAMPLE.com")), Ok(first));
        assert_eq!(names.addresses_of(&name("a.example.com")), Some(second));
        for address in [first.v4.into(), first.v6.into(), first.v4.to_ipv6_mapped().into()] {
            assert_eq!(names.name_of(address), Some(&name("example.com")));
        }
        assert_eq!((names.len(), names.is_empty()), (2, false));
    }

    /// Row N30: an address that another environment got means nothing here, or a name of one's own.
    #[test]
    fn row_n30_an_address_of_another_environment_leads_to_no_name_of_it() {
        let (mut one, mut other) = (Names::new(), Names::new());
        let secret = one.give(&name("secret.example.com")).unwrap();
        assert_eq!(other.name_of(secret.v4.into()), None);
        assert_eq!(other.name_of(secret.v6.into()), None);
        other.give(&name("plain.example.org")).unwrap();
        assert_eq!(other.name_of(secret.v4.into()), Some(&name("plain.example.org")));
        for address in [
            "198.18.0.0",
            "198.18.0.1",
            "198.18.1.1",
            "198.19.255.255",
            "127.0.0.1",
            "10.0.2.2",
            "fd6a:2c8c:6149::10.0.2.2",
            "::1",
        ] {
            assert_eq!(other.name_of(address.parse().unwrap()), None, "{address}");
        }
    }

    /// Row N5: data in names below one that is allowed.
    #[test]
    fn row_n05_a_tunnel_below_one_parent_ends_at_the_budget_and_is_told_once() {
        let mut names = Names::new();
        for at in 0..MAX_NAMES_BELOW {
            names.give(&name(&format!("d{at}.x.allowed.example"))).unwrap();
        }
        let turned = |first| Err(Turned::Crowded { parent: "allowed.example".to_owned(), first });
        assert_eq!(names.give(&name("one-more.allowed.example")), turned(true));
        assert_eq!(names.give(&name("and-more.y.allowed.example")), turned(false));
        // What was given stays, and others are not in its way.
        assert!(names.give(&name("d0.x.allowed.example")).is_ok());
        assert!(names.give(&name("other.example")).is_ok());
        assert_eq!(names.turned_away(), (2, 0));
    }

    #[test]
    fn row_n04_a_full_table_takes_no_more_names_and_forgets_none() {
        let mut names = Names::new();
        let given: Vec<_> = (0..MAX_NAMES).map(|at| names.give(&name(&format!("a.b{at}"))).unwrap()).collect();
        assert_eq!(names.give(&name("a.c")), Err(Turned::Full { first: true }));
        assert_eq!(names.give(&name("a.d")), Err(Turned::Full { first: false }));
        assert_eq!(names.turned_away(), (0, 2));
        for (at, addresses) in given.iter().enumerate() {
            assert_eq!(names.name_of(addresses.v4.into()).unwrap().as_str(), format!("a.b{at}"));
            assert_eq!(names.give(&name(&format!("a.b{at}"))), Ok(*addresses));
        }
        assert_eq!(names.len(), MAX_NAMES);
    }

    proptest! {
        #[test]
        fn no_address_means_two_names(asked in prop::collection::vec("[a-c]{1,2}\\.[ab]\\.[ab]", 0..40)) {
            let mut names = Names::new();
            let mut given = HashMap::new();
            for text in &asked {
                let addresses = names.give(&name(text)).unwrap();
                prop_assert_eq!(&*given.entry(addresses.v4).or_insert_with(|| text.clone()), text);
                prop_assert_eq!(names.name_of(addresses.v6.into()).unwrap().as_str(), text);
            }
            prop_assert_eq!(given.len(), names.len());
        }
    }
}
