//! A warp: which lanes are where, and the registers of their calls.
//!
//! Lanes that are at the same place of the same call form a fragment. The fragment in the deepest call runs, and of
//! those in equally deep calls the one at the lowest program counter: compilers lay out code so that lanes that wait
//! at higher addresses are met there, and fragments that meet are joined. A fragment that runs for long while others
//! could is interrupted, so that lanes that wait for other lanes of their warp get what they wait for.

use crate::interp::regs::{LANES, Regs};

/// Why a fragment does not run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Ready,
    /// Waits for the lanes of a mask to execute the same exchange.
    Lanes(u32),
    /// Waits until all lanes of the warp are here.
    Together,
    /// Arrived at a barrier of the block.
    Barrier(u32),
    /// Waits for the other threads of the cluster.
    Cluster,
}

/// Lanes that are at the same place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fragment {
    pub(super) frame: u32,
    pub(super) pc: u32,
    pub(super) mask: u32,
    pub(super) state: State,
    /// When it ran last.
    pub(super) stamp: u64,
}

/// A call.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) function: u32,
    pub(super) regs: Regs,
    /// Parameter memory: words, lane by lane.
    pub(super) params: Vec<[u32; LANES]>,
    pub(super) parent: Option<Parent>,
    pub(super) depth: u32,
    /// Where the local arrays of its callees start.
    pub(super) local_end: u32,
    /// Lanes that have not returned.
    pub(super) lanes: u32,
}

/// Where a call returns to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    pub(super) frame: u32,
    /// The call.
    pub(super) pc: u32,
}

/// 32 threads.
#[derive(Debug)]
pub(super) struct Warp {
    /// Number in its block.
    pub(super) number: u32,
    /// Number in the cluster.
    pub(super) index: u32,
    /// Rank of its block in the cluster.
    pub(super) rank: u32,
    /// Lanes that have not exited.
    pub(super) live: u32,
    pub(super) fragments: Vec<Fragment>,
    pub(super) frames: Vec<Frame>,
    /// Frames that can be used again.
    pub(super) free: Vec<u32>,
    pub(super) copies: super::copy::Copies,
    pub(super) products: super::wgmma::Products,
    /// Lanes that have arrived at the barrier of the cluster and not waited, and in which phase.
    pub(super) cluster_arrived: u32,
    pub(super) cluster_phase: [u32; LANES],
    /// The fragment that has waited longest is next.
    pub(super) fair: bool,
    stamp: u64,
}

impl Warp {
    pub(super) fn new(number: u32, index: u32, rank: u32, live: u32, frame: Frame, pc: u32) -> Self {
        let fragment = Fragment { frame: 0, pc, mask: live, state: State::Ready, stamp: 0 };
        Self {
            number,
            index,
            rank,
            live,
            fragments: vec![fragment],
            frames: vec![frame],
            free: Vec::new(),
            copies: super::copy::Copies::default(),
            products: super::wgmma::Products::default(),
            cluster_arrived: 0,
            cluster_phase: [0; LANES],
            fair: false,
            stamp: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.live == 0
    }

    pub(super) fn is_ready(&self) -> bool {
        self.fragments.iter().any(|f| f.state == State::Ready)
    }

    /// The fragment to run next; `fair`: the one that has waited longest.
    pub(super) fn pick(&mut self, fair: bool) -> Option<usize> {
        self.stamp += 1;
        if let [only] = self.fragments.as_mut_slice() {
            return (only.state == State::Ready).then_some(0);
        }
        self.join();
        let frames = &self.frames;
        let ready = self.fragments.iter().enumerate().filter(|(_, f)| f.state == State::Ready);
        let chosen = if fair {
            ready.min_by_key(|(_, f)| f.stamp)
        } else {
            ready.min_by_key(|(_, f)| (u32::MAX - frames[f.frame as usize].depth, f.pc))
        };
        let chosen = chosen.map(|(i, _)| i)?;
        self.fragments[chosen].stamp = self.stamp;
        Some(chosen)
    }

    /// Joins fragments that are at the same place.
    fn join(&mut self) {
        let mut i = 0;
        while i < self.fragments.len() {
            let mut j = i + 1;
            while j < self.fragments.len() {
                let (a, b) = (self.fragments[i], self.fragments[j]);
                let same = a.frame == b.frame && a.pc == b.pc && a.state == b.state;
                // Lanes at a barrier have arrived in their own time, but they go on together.
                if same && matches!(a.state, State::Ready | State::Together) {
                    self.fragments[i].mask |= b.mask;
                    self.fragments.swap_remove(j);
                } else {
                    j += 1;
                }
            }
            i += 1;
        }
    }

    /// The lowest program counter above that of fragment `i` where it meets another.
    pub(super) fn meeting(&self, i: usize) -> u32 {
        let own = self.fragments[i];
        let others = self.fragments.iter().enumerate();
        others
            .filter(|(j, f)| *j != i && f.frame == own.frame && f.pc > own.pc && f.state == State::Ready)
            .map(|(_, f)| f.pc)
            .min()
            .unwrap_or(u32::MAX)
    }

    /// Takes lanes out of a fragment; they go on at `pc`.
    pub(super) fn split(&mut self, i: usize, lanes: u32, pc: u32) -> usize {
        let own = &mut self.fragments[i];
        if own.mask == lanes {
            own.pc = pc;
            return i;
        }
        own.mask &= !lanes;
        let new = Fragment { mask: lanes, pc, ..*own };
        self.fragments.push(new);
        self.fragments.len() - 1
    }

    /// The lanes of a mask end.
    pub(super) fn exit(&mut self, lanes: u32) {
        self.live &= !lanes;
        for fragment in &mut self.fragments {
            fragment.mask &= !lanes;
        }
        self.fragments.retain(|f| f.mask != 0);
        for f in 0..self.frames.len() {
            if self.frames[f].lanes & lanes != 0 {
                self.release(f, lanes);
            }
        }
    }

    /// The lanes of a mask leave a frame.
    pub(super) fn release(&mut self, frame: usize, lanes: u32) {
        let found = &mut self.frames[frame];
        found.lanes &= !lanes;
        if found.lanes == 0 {
            self.free.push(u32::try_from(frame).unwrap_or(0));
        }
    }

    /// Keeps a frame, in the place of one that is not needed any more if there is one.
    pub(super) fn keep(&mut self, frame: Frame) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.frames[place as usize] = frame;
                place
            }
            None => {
                self.frames.push(frame);
                u32::try_from(self.frames.len() - 1).unwrap_or(0)
            }
        }
    }

    /// Fragments that wait at a place for the others of the warp: do they make up the whole warp now?
    pub(super) fn gathered(&self, frame: u32, pc: u32) -> bool {
        let here = |f: &&Fragment| f.frame == frame && f.pc == pc && f.state == State::Together;
        self.fragments.iter().filter(here).fold(0, |mask, f| mask | f.mask) == self.live
    }
}
