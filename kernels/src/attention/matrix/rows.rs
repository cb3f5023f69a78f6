//! Keys and values on their way from the cache to the tensor cores.

use ptx_builder::{B16, B32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::{MatrixPlan, ring};
use crate::stored::Stored;

/// The lane's features of some positions, as they were loaded.
#[derive(Debug)]
pub(super) struct Rows {
    stored: Stored,
    /// Words by position, round by round.
    words: Vec<Vec<Var<B32>>>,
}

impl Rows {
    /// Zeros for `positions` positions of `rounds` pieces each.
    pub fn new(k: &mut KernelBuilder, stored: Stored, positions: u32, rounds: u32) -> Self {
        let words = rounds * MatrixPlan::PIECE / stored.per_word();
        let words = (0..positions).map(|_| (0..words).map(|_| k.var::<B32>(0)).collect()).collect();
        Self { stored, words }
    }

    /// Loads every round, `round` features apart, of the positions at `rows` in the cache. Where `has_last` does not hold,
    /// the last round remains zero.
    pub fn load(&self, k: &mut KernelBuilder, rows: &[Reg<U64>], round: u32, has_last: Option<Pred>) {
        self.each(k, has_last, |k, position, index| {
            let at = rows[position] + (index * round * self.stored.bytes()) as i32;
            match self.stored {
                Stored::E4m3 => k.ld_global_v2::<B32>(at).to_vec(),
                _ => k.ld_global_v4::<B32>(at).to_vec(),
            }
        });
    }

    /// The same for positions at `rows` in a slot of a [ring](ring::Ring).
    pub fn read(&self, k: &mut KernelBuilder, rows: &[Reg<U32>], round: u32, has_last: Option<Pred>) {
        self.each(k, has_last, |k, position, index| {
            let at = ring::further(k, rows[position], index * round * self.stored.bytes());
            match self.stored {
                Stored::E4m3 => k.ld_shared_v2::<B32>(at).to_vec(),
                _ => k.ld_shared_v4::<B32>(at).to_vec(),
            }
        });
    }

    /// Sets the words of every position and round to what `load` gives.
    fn each(
        &self,
        k: &mut KernelBuilder,
        has_last: Option<Pred>,
        load: impl Fn(&mut KernelBuilder, usize, u32) -> Vec<Reg<B32>>,
    ) {
        let per_round = (MatrixPlan::PIECE / self.stored.per_word()) as usize;
        for (position, words) in self.words.iter().enumerate() {
            let rounds = words.len() / per_round;
            for (index, words) in words.chunks(per_round).enumerate() {
                let set = |k: &mut KernelBuilder| {
                    let loaded = load(k, position, index as u32);
                    words.iter().zip(loaded).for_each(|(&word, new)| k.set(word, new));
                };
                match has_last.filter(|_| index + 1 == rounds) {
                    Some(exists) => k.guarded(exists, set),
                    None => set(k),
                }
            }
        }
    }

    /// Features `2 pair` and `2 pair + 1` of a position as two factors of a product.
    pub fn word(&self, k: &mut KernelBuilder, position: usize, pair: usize) -> Reg<B32> {
        let words = &self.words[position];
        match self.stored {
            Stored::E4m3 => {
                let [low, high] = k.unpack32::<B16>(words[pair / 2]);
                let half = if pair.is_multiple_of(2) { low } else { high };
                k.e4m3x2_to_f16x2(half).cast()
            }
            _ => k.get(words[pair]),
        }
    }

    /// Pairs `2 fragment` and the next.
    pub fn pair(&self, k: &mut KernelBuilder, position: usize, fragment: usize) -> [Reg<B32>; 2] {
        [2 * fragment, 2 * fragment + 1].map(|pair| self.word(k, position, pair))
    }
}
