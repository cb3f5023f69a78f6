//! What happens before what, for the warps of a cluster.

use crate::interp::memory::Order;
use std::collections::HashMap;
use std::sync::Arc;

/// Epochs of the warps of clusters, counted from the start of each cluster: everything that a warp did up to its epoch is
/// known. What is not mentioned is not known.
#[derive(Clone, Debug, Default)]
pub(in crate::interp) struct Known {
    clusters: HashMap<u32, Box<[u32]>>,
}

impl Known {
    /// Is the access of a warp at an epoch known?
    fn has(&self, cluster: u32, warp: usize, epoch: u32) -> bool {
        let row = self.clusters.get(&cluster);
        row.and_then(|row| row.get(warp)).is_some_and(|known| *known >= epoch)
    }

    /// `into` learns what `other` knows.
    pub(super) fn join(into: &mut Arc<Self>, other: &Arc<Self>) {
        if Arc::ptr_eq(into, other) {
            return;
        }
        if into.clusters.is_empty() {
            *into = Arc::clone(other);
            return;
        }
        let news = |into: &Self| {
            other.clusters.iter().any(|(cluster, row)| match into.clusters.get(cluster) {
                None => true,
                Some(known) => row.iter().zip(known).any(|(new, known)| new > known),
            })
        };
        if !news(into) {
            return;
        }
        let into = Arc::make_mut(into);
        for (cluster, row) in &other.clusters {
            match into.clusters.get_mut(cluster) {
                None => {
                    into.clusters.insert(*cluster, row.clone());
                }
                Some(known) => join_rows(known, row),
            }
        }
    }
}

fn join_rows(into: &mut [u32], other: &[u32]) {
    for (into, other) in into.iter_mut().zip(other) {
        *into = (*into).max(*other);
    }
}

/// The clocks of the warps of the cluster that runs now.
///
/// Epochs grow over the clusters that one object serves, so that accesses of earlier clusters lie in the past of everyone.
#[derive(Clone, Debug)]
pub(in crate::interp) struct Clocks {
    warps: usize,
    cluster: u32,
    /// The last epoch before the cluster began.
    base: u32,
    /// The last epoch that any warp has begun.
    now: u32,
    epoch: Vec<u32>,
    /// Counts `bar.warp.sync` and all that is more than it.
    step: Vec<u32>,
    /// `known[w * warps + u]`: the last epoch of `u` that happened before what `w` does next.
    known: Vec<u32>,
    /// The least of `known` over the others: everything up to it is ordered, whoever did it.
    floor: Vec<u32>,
    /// What each warp knows of other clusters.
    foreign: Vec<Arc<Known>>,
    /// What was known at the last fence, own clusters' warps included: for the device, and for the block.
    fenced: [Vec<Option<Arc<Known>>>; 2],
    /// What strong reads since the last fence have learned.
    learned: Vec<Vec<Arc<Known>>>,
    /// Objects of the cluster: mbarriers, flags in shared memory.
    objects: HashMap<u64, Arc<Known>>,
    waited: Vec<bool>,
    any_fence: bool,
    group: Vec<usize>,
}

const DEVICE: usize = 0;
const BLOCK: usize = 1;

impl Clocks {
    pub(in crate::interp) fn new(warps: usize) -> Self {
        Self {
            warps,
            cluster: 0,
            base: 0,
            now: 1,
            epoch: vec![1; warps],
            step: vec![0; warps],
            known: vec![0; warps * warps],
            floor: vec![0; warps],
            foreign: vec![Arc::default(); warps],
            fenced: [vec![None; warps], vec![None; warps]],
            learned: vec![Vec::new(); warps],
            objects: HashMap::new(),
            waited: vec![false; warps],
            any_fence: false,
            group: Vec::new(),
        }
    }

    /// A cluster begins; nothing in it is ordered. True if epochs begin anew and what is remembered of them is void.
    pub(in crate::interp) fn begin(&mut self, cluster: u32) -> bool {
        let wraps = self.now > u32::MAX / 2;
        if wraps {
            self.now = 0;
        }
        self.cluster = cluster;
        self.base = self.now;
        self.now += 1;
        self.epoch.fill(self.now);
        self.step.fill(0);
        self.known.fill(self.base);
        self.floor.fill(self.base);
        for warp in 0..self.warps {
            self.known[warp * self.warps + warp] = self.now;
            if !self.foreign[warp].clusters.is_empty() {
                self.foreign[warp] = Arc::default();
            }
            self.fenced[DEVICE][warp] = None;
            self.fenced[BLOCK][warp] = None;
            self.learned[warp].clear();
            self.waited[warp] = false;
        }
        self.any_fence = false;
        self.objects.clear();
        wraps
    }

    pub(in crate::interp) fn warps(&self) -> usize {
        self.warps
    }

    pub(in crate::interp) fn cluster(&self) -> u32 {
        self.cluster
    }

    /// The epoch of the warp's accesses.
    #[inline]
    pub(in crate::interp) fn epoch(&self, warp: u32) -> u32 {
        self.epoch[warp as usize]
    }

    /// The same, counted from the start of the cluster.
    #[inline]
    pub(in crate::interp) fn relative_epoch(&self, warp: u32) -> u32 {
        self.epoch[warp as usize] - self.base
    }

    /// Counts the synchronisations of the warp's lanes.
    #[inline]
    pub(in crate::interp) fn step(&self, warp: u32) -> u32 {
        self.step[warp as usize]
    }

    /// Everything up to this epoch happened before what the warp does, whoever did it.
    #[inline]
    pub(in crate::interp) fn floor(&self, warp: u32) -> u32 {
        self.floor[warp as usize]
    }

    /// Did what warp `other` of this cluster did at `epoch` happen before what `warp` does now?
    #[inline]
    pub(in crate::interp) fn ordered(&self, warp: u32, other: u32, epoch: u32) -> bool {
        let index = warp as usize * self.warps + other as usize;
        self.known.get(index).is_none_or(|known| epoch <= *known)
    }

    /// The same for any warp of the grid and an epoch counted from the start of its cluster.
    #[inline]
    pub(in crate::interp) fn ordered_in_grid(&self, warp: u32, other: u64, epoch: u32) -> bool {
        let warps = self.warps as u64;
        let in_cluster = other.wrapping_sub(u64::from(self.cluster) * warps);
        if in_cluster < warps {
            return self.ordered(warp, in_cluster as u32, self.base.saturating_add(epoch));
        }
        let foreign = &self.foreign[warp as usize];
        !foreign.clusters.is_empty() && foreign.has((other / warps) as u32, (other % warps) as usize, epoch)
    }

    /// Has the warp learned anything from another cluster?
    pub(in crate::interp) fn knows_others(&self, warp: u32) -> bool {
        !self.foreign[warp as usize].clusters.is_empty()
    }

    pub(in crate::interp) fn waited(&self, warp: u32) -> bool {
        self.waited[warp as usize]
    }

    pub(in crate::interp) fn wait_for_grids(&mut self, warp: u32) {
        self.waited[warp as usize] = true;
    }

    #[inline]
    pub(in crate::interp) fn sync_lanes(&mut self, warp: u32) {
        self.step[warp as usize] += 1;
    }

    fn row(&mut self, warp: usize) -> &mut [u32] {
        &mut self.known[warp * self.warps..][..self.warps]
    }

    fn begin_epoch(&mut self, warp: usize) {
        self.now += 1;
        self.epoch[warp] = self.now;
        self.step[warp] += 1;
        let now = self.now;
        self.row(warp)[warp] = now;
    }

    fn update_floor(&mut self, warp: usize) {
        let row = &self.known[warp * self.warps..][..self.warps];
        let others = row.iter().enumerate().filter(|(other, _)| *other != warp);
        self.floor[warp] = others.map(|(_, known)| *known).min().unwrap_or(self.epoch[warp] - 1);
    }

    /// These warps met: each learns what the others know and did.
    pub(in crate::interp) fn barrier(&mut self, warps: &mut dyn Iterator<Item = u32>) {
        let mut group = std::mem::take(&mut self.group);
        group.clear();
        group.extend(warps.map(|warp| warp as usize).filter(|warp| *warp < self.warps));
        if let Some((&first, rest)) = group.split_first() {
            // The first warp's row becomes everybody's.
            for &warp in rest {
                for other in 0..self.warps {
                    let theirs = self.known[warp * self.warps + other];
                    let ours = &mut self.known[first * self.warps + other];
                    *ours = theirs.max(*ours);
                }
                let foreign = Arc::clone(&self.foreign[warp]);
                Known::join(&mut self.foreign[first], &foreign);
                self.waited[first] |= self.waited[warp];
            }
            if self.any_fence {
                self.join_fences(first, rest);
            }
            self.now += 1;
            let joined: Vec<u32> = self.row(first).to_vec();
            for &warp in &group {
                self.row(warp).copy_from_slice(&joined);
                self.foreign[warp] = Arc::clone(&self.foreign[first]);
                self.waited[warp] = self.waited[first];
                self.epoch[warp] = self.now;
                self.step[warp] += 1;
                let now = self.now;
                self.row(warp)[warp] = now;
                self.update_floor(warp);
            }
        }
        self.group = group;
    }

    /// A fence before a barrier covers what follows for all who met: a barrier orders the fence before their accesses.
    fn join_fences(&mut self, first: usize, rest: &[usize]) {
        for fenced in &mut self.fenced {
            let mut all = fenced[first].clone();
            for &warp in rest {
                match (&mut all, &fenced[warp]) {
                    (_, None) => {}
                    (None, Some(theirs)) => all = Some(Arc::clone(theirs)),
                    (Some(all), Some(theirs)) => Known::join(all, theirs),
                }
            }
            for &warp in std::iter::once(&first).chain(rest) {
                fenced[warp].clone_from(&all);
            }
        }
    }

    /// Everything that the warp knows, itself included.
    fn knowledge(&self, warp: usize) -> Arc<Known> {
        let row = &self.known[warp * self.warps..][..self.warps];
        let own = row.iter().map(|epoch| epoch.saturating_sub(self.base)).collect();
        let mut all = Arc::clone(&self.foreign[warp]);
        Arc::make_mut(&mut all).clusters.insert(self.cluster, own);
        all
    }

    fn learn(&mut self, warp: usize, known: &Arc<Known>) {
        if let Some(own) = known.clusters.get(&self.cluster) {
            let base = self.base;
            for (mine, theirs) in self.row(warp).iter_mut().zip(own) {
                *mine = (*mine).max(base + theirs);
            }
            self.update_floor(warp);
        }
        let others = known.clusters.keys().any(|cluster| *cluster != self.cluster);
        if others {
            Known::join(&mut self.foreign[warp], known);
        }
    }

    /// A fence: if it acquires, what strong reads learned before it is known after it; if it releases, what was known
    /// before it is what strong writes after it tell.
    pub(in crate::interp) fn fence(&mut self, warp: u32, device: bool, order: Order) {
        let warp = warp as usize;
        if order.acquires() {
            for known in std::mem::take(&mut self.learned[warp]) {
                self.learn(warp, &known);
            }
        }
        if !order.releases() {
            return;
        }
        let knowledge = self.knowledge(warp);
        self.any_fence = true;
        self.fenced[BLOCK][warp] = Some(Arc::clone(&knowledge));
        if device {
            self.fenced[DEVICE][warp] = Some(knowledge);
        }
        self.begin_epoch(warp);
    }

    /// What a strong write tells: all, if it releases; what was known at the last fence, if it does not.
    pub(in crate::interp) fn tell(&mut self, warp: u32, releases: bool, device: bool) -> Option<Arc<Known>> {
        let warp = warp as usize;
        if releases {
            let knowledge = self.knowledge(warp);
            self.begin_epoch(warp);
            return Some(knowledge);
        }
        self.fenced[if device { DEVICE } else { BLOCK }][warp].clone()
    }

    /// A strong read learns: at once, if it acquires; at the next fence, if it does not.
    pub(in crate::interp) fn hear(&mut self, warp: u32, known: Arc<Known>, acquires: bool) {
        let warp = warp as usize;
        if acquires {
            self.learn(warp, &known);
            self.step[warp] += 1;
        } else if !self.learned[warp].iter().any(|old| Arc::ptr_eq(old, &known)) {
            self.learned[warp].push(known);
        }
    }

    /// Publishes to an object of the cluster.
    pub(in crate::interp) fn publish(&mut self, object: u64, known: &Arc<Known>) {
        match self.objects.get_mut(&object) {
            None => {
                self.objects.insert(object, Arc::clone(known));
            }
            Some(old) => Known::join(old, known),
        }
    }

    /// What is published at an object of the cluster.
    pub(in crate::interp) fn published(&self, object: u64) -> Option<Arc<Known>> {
        if self.objects.is_empty() { None } else { self.objects.get(&object).map(Arc::clone) }
    }

    pub(in crate::interp) fn release_object(&mut self, warp: u32, object: u64) {
        if let Some(known) = self.tell(warp, true, false) {
            self.publish(object, &known);
        }
    }

    /// The same for what was known at the last fence.
    pub(in crate::interp) fn release_object_relaxed(&mut self, warp: u32, object: u64) {
        if let Some(known) = self.tell(warp, false, false) {
            self.publish(object, &known);
        }
    }

    pub(in crate::interp) fn acquire_object(&mut self, warp: u32, object: u64) {
        if let Some(known) = self.published(object) {
            self.hear(warp, known, true);
        }
    }
}
