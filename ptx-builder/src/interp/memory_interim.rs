#![allow(missing_docs, dead_code, clippy::all)]
use super::finding::{Fault, FindingKind, Findings, RawFinding};
use super::launch::{LaunchId, Sanitize};
use super::metrics::MemoryMetrics;
use crate::inst::{Scope, Space};
use std::sync::{Arc, Mutex};
pub(super) const LOCAL_WINDOW: u64 = 0x0100_0000_0000;
pub(super) const SHARED_WINDOW: u64 = 0x0200_0000_0000;
pub(super) const RANK_SHIFT: u32 = 24;
pub(super) type Values = [[u32; 8]; 32];
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) warp: u32,
    pub(super) pc: u32,
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Relaxed,
    Acquire,
    Release,
    AcqRel,
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Strength {
    Weak,
    NonCoherent,
    Strong { order: Order, scope: Scope },
}
impl Strength {
    pub(super) const VOLATILE: Self = Self::Strong { order: Order::Relaxed, scope: Scope::Sys };
    pub(super) fn is_strong(self) -> bool {
        matches!(self, Self::Strong { .. })
    }
}
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) space: Space,
    pub(super) bytes: u8,
    pub(super) strength: Strength,
}
#[derive(Debug, Clone, thiserror::Error)]
#[error("memory")]
pub struct MemoryError;
#[derive(Debug)]
pub struct Allocation;
#[derive(Debug)]
pub struct AllocationKind;
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<(u64, Vec<u8>)>>>);
impl Memory {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn alloc(&self, n: u64) -> Result<u64, MemoryError> {
        let mut v = self.0.lock().unwrap();
        let base =
            v.last().map_or(0x1000_0000_0000, |(b, d)| (b + d.len() as u64 + 4096).next_multiple_of(256));
        v.push((base, vec![0; n as usize]));
        Ok(base)
    }
    pub fn free(&self, _a: u64) -> Result<(), MemoryError> {
        Ok(())
    }
    pub fn write(&self, a: u64, d: &[u8]) -> Result<(), MemoryError> {
        let mut v = self.0.lock().unwrap();
        let i = v.partition_point(|(b, _)| *b <= a);
        if i == 0 {
            return Err(MemoryError);
        }
        let (b, m) = &mut v[i - 1];
        let o = (a - *b) as usize;
        m.get_mut(o..o + d.len()).ok_or(MemoryError)?.copy_from_slice(d);
        Ok(())
    }
    pub fn read(&self, a: u64, d: &mut [u8]) -> Result<(), MemoryError> {
        let v = self.0.lock().unwrap();
        let i = v.partition_point(|(b, _)| *b <= a);
        if i == 0 {
            return Err(MemoryError);
        }
        let (b, m) = &v[i - 1];
        let o = (a - *b) as usize;
        d.copy_from_slice(m.get(o..o + d.len()).ok_or(MemoryError)?);
        Ok(())
    }
}
pub(super) struct Shape {
    pub(super) clusters: u64,
    pub(super) blocks: u32,
    pub(super) warps_per_block: u32,
    pub(super) shared_bytes: u32,
    pub(super) local_bytes: u32,
}
pub(super) struct LaunchMemory {
    memory: Memory,
    shape: Shape,
    findings: Mutex<Findings>,
}
impl LaunchMemory {
    pub(super) fn new(
        m: &Memory,
        _id: LaunchId,
        _p: &[LaunchId],
        shape: Shape,
        _s: (Sanitize, bool),
    ) -> Self {
        Self { memory: m.clone(), shape, findings: Mutex::default() }
    }
    pub(super) fn cluster_memory(&self) -> ClusterMemory<'_> {
        ClusterMemory {
            l: self,
            cluster: 0,
            shared: vec![vec![0; self.shape.shared_bytes as usize]; self.shape.blocks as usize],
            local: vec![
                0;
                (self.shape.local_bytes * self.shape.blocks * self.shape.warps_per_block * 32)
                    as usize
            ],
        }
    }
    pub(super) fn finish(self) -> (Vec<RawFinding>, Option<MemoryMetrics>) {
        (self.findings.into_inner().unwrap().into_sorted(), None)
    }
}
pub(super) struct ClusterMemory<'a> {
    l: &'a LaunchMemory,
    cluster: u32,
    shared: Vec<Vec<u8>>,
    local: Vec<u8>,
}
impl ClusterMemory<'_> {
    pub(super) fn begin(&mut self, c: u32) {
        self.cluster = c;
        for s in &mut self.shared {
            s.fill(0xAA)
        }
    }
    fn io(
        &mut self,
        at: Site,
        a: &Access,
        lane: usize,
        addr: u64,
        buf: &mut [u8],
        write: bool,
    ) -> Result<(), Fault> {
        let mut space = a.space;
        let mut x = addr;
        if space == Space::Generic {
            if x.wrapping_sub(SHARED_WINDOW) < 1 << 32 {
                x -= SHARED_WINDOW;
                space = Space::Shared
            } else if x.wrapping_sub(LOCAL_WINDOW) < 1 << 32 {
                x -= LOCAL_WINDOW;
                space = Space::Local
            } else {
                space = Space::Global
            }
        }
        if x % buf.len() as u64 != 0 {
            return Err(Box::new(self.finding(FindingKind::Misaligned, at, lane as u32, String::new())));
        }
        let n = buf.len();
        let ok = match space {
            Space::Shared | Space::SharedCluster => {
                let m = self
                    .shared
                    .get_mut((x >> 24) as usize)
                    .and_then(|m| m.get_mut((x & 0xFFFFFF) as usize..(x & 0xFFFFFF) as usize + n));
                match m {
                    Some(m) => {
                        if write {
                            m.copy_from_slice(buf)
                        } else {
                            buf.copy_from_slice(m)
                        }
                        true
                    }
                    None => false,
                }
            }
            Space::Local => {
                let lb = self.l.shape.local_bytes as usize;
                if x as usize + n > lb {
                    false
                } else {
                    let o = (at.warp as usize * 32 + lane) * lb + x as usize;
                    let m = &mut self.local[o..o + n];
                    if write {
                        m.copy_from_slice(buf)
                    } else {
                        buf.copy_from_slice(m)
                    }
                    true
                }
            }
            _ => {
                if write {
                    self.l.memory.write(x, buf).is_ok()
                } else {
                    self.l.memory.read(x, buf).is_ok()
                }
            }
        };
        if ok {
            Ok(())
        } else {
            let mut f = self.finding(FindingKind::OutOfBounds, at, lane as u32, String::new());
            f.address = Some(addr);
            f.space = Some(space);
            Err(Box::new(f))
        }
    }
    pub(super) fn load(
        &mut self,
        at: Site,
        a: &Access,
        mask: u32,
        addr: &[u64; 32],
        out: &mut Values,
    ) -> Result<(), Fault> {
        for l in 0..32 {
            if mask >> l & 1 == 1 {
                let mut b = [0u8; 32];
                self.io(at, a, l, addr[l], &mut b[..a.bytes as usize], false)?;
                for w in 0..8 {
                    out[l][w] = u32::from_le_bytes(b[w * 4..w * 4 + 4].try_into().unwrap())
                }
            }
        }
        Ok(())
    }
    pub(super) fn store(
        &mut self,
        at: Site,
        a: &Access,
        mask: u32,
        addr: &[u64; 32],
        d: &Values,
    ) -> Result<(), Fault> {
        for l in 0..32 {
            if mask >> l & 1 == 1 {
                let mut b = [0u8; 32];
                for w in 0..8 {
                    b[w * 4..w * 4 + 4].copy_from_slice(&d[l][w].to_le_bytes())
                }
                self.io(at, a, l, addr[l], &mut b[..a.bytes as usize], true)?;
            }
        }
        Ok(())
    }
    pub(super) fn atomic(
        &mut self,
        at: Site,
        a: &Access,
        mask: u32,
        addr: &[u64; 32],
        f: &mut dyn FnMut(usize, u64) -> u64,
    ) -> Result<(), Fault> {
        static G: Mutex<()> = Mutex::new(());
        let _g = G.lock();
        for l in 0..32 {
            if mask >> l & 1 == 1 {
                let mut b = [0u8; 8];
                self.io(at, a, l, addr[l], &mut b[..a.bytes as usize], false)?;
                let n = f(l, u64::from_le_bytes(b));
                b = n.to_le_bytes();
                self.io(at, a, l, addr[l], &mut b[..a.bytes as usize], true)?;
            }
        }
        Ok(())
    }
    pub(super) fn sync_warps(&mut self, _w: &mut dyn Iterator<Item = u32>) {}
    pub(super) fn sync_lanes(&mut self, _w: u32, _m: u32) {}
    pub(super) fn release(&mut self, _w: u32, _o: u64) {}
    pub(super) fn acquire(&mut self, _w: u32, _o: u64) {}
    pub(super) fn fence(&mut self, _w: u32, _s: Scope) {}
    pub(super) fn grid_dependency_wait(&mut self, _w: u32) {}
    pub(super) fn report(&mut self, f: RawFinding) {
        self.l.findings.lock().unwrap().add(f)
    }
    pub(super) fn finding(&self, kind: FindingKind, at: Site, lane: u32, detail: String) -> RawFinding {
        RawFinding {
            kind,
            pc: at.pc,
            cluster: self.cluster,
            warp: at.warp,
            lane,
            address: None,
            space: None,
            detail,
            other: None,
            count: 1,
        }
    }
}
