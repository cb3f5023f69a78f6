//! What the launches of a step make of the memory's speed: numbers, a table, JSON, and the picture after which the model
//! is named (Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
//! architectures", CACM 52(4), 2009).

mod svg;
mod table;

use std::collections::BTreeMap;

use kernels::Cost;
use kernels::cases::family;
use serde_json::{Value, json};

use crate::cuda::{Profile, StepTime};

/// What a device can do at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roof {
    /// Bytes per second that its memory gives.
    pub bytes_per_second: f64,
    /// How many bytes were read again and again to measure that; `None` where it is somebody's word.
    pub measured: Option<u64>,
    /// Operations per second of its f32 pipes, if that is known.
    pub operations_per_second: Option<f64>,
}

/// The profile of a step beside the roof of the device that it ran on.
#[derive(Debug, Clone, PartialEq)]
pub struct Roofline {
    /// The model's name.
    pub model: String,
    /// The device's name.
    pub gpu: String,
    /// Positions that the step's row attends to.
    pub context: u64,
    /// What the device can do.
    pub roof: Roof,
    /// What the step took.
    pub profile: Profile,
}

/// Launches that are alike: of one kernel, of one family, or all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// How many a step has.
    pub launches: usize,
    /// The sum of their times one after the other, in microseconds.
    pub micros: f64,
    /// The sum of what they add to a step, in microseconds.
    pub added: f64,
    /// The sum of their costs.
    pub cost: Cost,
    /// Whether the weights of all of them came from memory and not from the L2.
    pub cold: bool,
}

impl Group {
    /// Of no launches.
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            launches: 0,
            micros: 0.0,
            added: 0.0,
            cost: Cost::default(),
            cold: true,
        }
    }

    fn add(&mut self, step: &StepTime) {
        self.launches += 1;
        self.micros += step.micros;
        self.added += step.added();
        self.cost.bytes_read += step.cost.bytes_read;
        self.cost.bytes_written += step.cost.bytes_written;
        self.cost.operations += step.cost.operations;
        self.cold &= step.cold;
    }

    /// Bytes read and written.
    pub fn bytes(&self) -> u64 {
        self.cost.bytes_read + self.cost.bytes_written
    }

    /// Bytes per second of the time that they add; 0 where there is none.
    pub fn bytes_per_second(&self) -> f64 {
        rate(self.bytes(), self.added)
    }

    /// Operations per second of the time that they add; 0 where there is none.
    pub fn operations_per_second(&self) -> f64 {
        rate(self.cost.operations, self.added)
    }

    /// Operations for each byte; 0 where there are no bytes.
    pub fn intensity(&self) -> f64 {
        if self.bytes() == 0 { 0.0 } else { self.cost.operations as f64 / self.bytes() as f64 }
    }
}

fn rate(count: u64, micros: f64) -> f64 {
    if micros > 0.0 { count as f64 / (micros * 1e-6) } else { 0.0 }
}

impl Roofline {
    /// The launches by kernel, in the order of the step.
    pub fn kernels(&self) -> Vec<Group> {
        self.groups(|step| &step.name)
    }

    /// The launches by family, which is the kernel's name up to its shape, in the order of the step.
    pub fn families(&self) -> Vec<Group> {
        self.groups(|step| family(&step.name))
    }

    /// All of them.
    pub fn total(&self) -> Group {
        let mut total = Group::new("all");
        self.profile.steps.iter().for_each(|step| total.add(step));
        total
    }

    /// The share of the memory's speed that launches reach.
    pub fn share_of_roof(&self, group: &Group) -> f64 {
        group.bytes_per_second() / self.roof.bytes_per_second
    }

    fn groups<'a>(&'a self, name: impl Fn(&'a StepTime) -> &'a str) -> Vec<Group> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for step in &self.profile.steps {
            let name = name(step);
            let place = *places.entry(name).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Group::new(name));
            }
            groups[place].add(step);
        }
        groups
    }

    /// Everything as JSON: each launch, each kernel, each family and the whole. Times are in microseconds.
    pub fn json(&self) -> Value {
        let groups =
            |groups: Vec<Group>| groups.iter().map(|group| self.group_json(group)).collect::<Vec<_>>();
        let launch = |step: &StepTime| {
            let mut alone = Group::new(&step.name);
            alone.add(step);
            let mut value = self.group_json(&alone);
            value["step"] = json!(step.step);
            value
        };
        json!({
            "model": self.model,
            "gpu": self.gpu,
            "context": self.context,
            "roof_bytes_per_s": self.roof.bytes_per_second,
            "roof_measured_bytes": self.roof.measured,
            "roof_operations_per_s": self.roof.operations_per_second,
            "step_us": self.profile.micros,
            "launches": self.profile.steps.iter().map(launch).collect::<Vec<_>>(),
            "kernels": groups(self.kernels()),
            "families": groups(self.families()),
            "total": self.group_json(&self.total()),
        })
    }

    fn group_json(&self, group: &Group) -> Value {
        json!({
            "name": group.name,
            "launches": group.launches,
            "us_alone": group.micros,
            "us_added": group.added,
            "bytes_read": group.cost.bytes_read,
            "bytes_written": group.cost.bytes_written,
            "operations": group.cost.operations,
            "bytes_per_s": group.bytes_per_second(),
            "share_of_roof": self.share_of_roof(group),
            "from_memory": group.cold,
        })
    }
}

#[cfg(test)]
mod tests;
