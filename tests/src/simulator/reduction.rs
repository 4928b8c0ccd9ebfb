//! What is left out of a seed's history, so that less of it has to be understood.

use std::fmt;
use std::time::Duration;

use super::plan::Plan;

/// What is left out. Displayed, it is the flags of `simulate` that leave out the same.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reduction {
    /// Classes of accidents that do not happen.
    pub without: Vec<&'static str>,
    /// How long the accidents last.
    pub duration: Option<Duration>,
    /// Nodes.
    pub nodes: Option<u16>,
    /// Rings.
    pub rings: Option<u32>,
    /// Accidents after which nothing goes wrong any more.
    pub accidents: Option<u64>,
    /// Commands after which clients ask nothing more.
    pub operations: Option<u64>,
}

impl Plan {
    /// The same plan with less in it.
    #[must_use]
    pub fn reduced(mut self, reduction: &Reduction) -> Plan {
        for class in &reduction.without {
            self.without(class);
        }
        self.duration = reduction.duration.unwrap_or(self.duration).min(self.duration);
        let damages_all = self.damaged_max >= self.nodes;
        self.nodes = reduction.nodes.unwrap_or(self.nodes).clamp(1, self.nodes);
        self.damaged_max = if damages_all { self.nodes } else { self.damaged_max.min((self.nodes - 1) / 2) };
        self.rings = reduction.rings.unwrap_or(self.rings).clamp(1, self.rings);
        self.accidents_max = reduction.accidents.unwrap_or(self.accidents_max);
        self.commands_max = reduction.operations.unwrap_or(self.commands_max);
        self
    }
}

impl Reduction {
    /// The class of a name as the command line has it, where `-` stands for a space.
    pub fn class(name: &str) -> Option<&'static str> {
        Plan::classes().iter().copied().find(|class| flag_of(class) == flag_of(name))
    }

    /// Leaves out a class too.
    #[must_use]
    pub(super) fn and_without(&self, class: &'static str) -> Reduction {
        let mut reduction = self.clone();
        reduction.without.push(class);
        reduction
    }
}

fn flag_of(class: &str) -> String {
    class.replace(' ', "-")
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.without.is_empty() {
            let names: Vec<String> = self.without.iter().map(|class| flag_of(class)).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        if let Some(duration) = self.duration {
            write!(f, " --duration {}s", duration.as_secs_f64())?;
        }
        let numbers = [
            ("nodes", self.nodes.map(u64::from)),
            ("rings", self.rings.map(u64::from)),
            ("accidents", self.accidents),
            ("operations", self.operations),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(f, " --{name} {number}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduction_is_told_as_flags() {
        let without = vec!["kills", "power failures"];
        let duration = Some(Duration::from_millis(8500));
        let reduction = Reduction { without, duration, accidents: Some(12), ..Reduction::default() };
        let flags = " --without kills,power-failures --duration 8.5s --accidents 12";
        assert_eq!(reduction.to_string(), flags);
        assert_eq!(Reduction::class("power-failures"), Some("power failures"));
        assert_eq!(Reduction::class("no-such-class"), None);
        assert_eq!(Reduction::default().to_string(), "");
    }

    #[test]
    fn a_plan_is_never_enlarged() {
        let plan = Plan::draw(3);
        let much = Reduction { nodes: Some(99), rings: Some(99), ..Reduction::default() };
        let same = plan.clone().reduced(&much);
        assert_eq!((same.nodes, same.rings, same.duration), (plan.nodes, plan.rings, plan.duration));
    }
}
