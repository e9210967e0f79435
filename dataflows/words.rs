//! Finds where a key belongs among sorted keys with a common prefix, by eight bytes.
//!
//! ```text
//!  key   u s e r : 4 2 7 1 · ·      words   17······  42······  4271····
//!        prefix │  word   │         slots   by the words' leading bits
//! ```
//!
//! * **Exact.** Where words are equal, keys are compared in full.
//! * **One miss.** A slot says between which few words to search, so that a look-up among a hundred
//!   thousand touches little more than that slot and those words.

use std::cmp::Ordering;

/// The table has at most two to this power slots.
const SLOT_BITS_MAX: u32 = 18;

/// The first eight bytes as a number, as if zeros followed: of two keys, the lesser one never has
/// the greater word.
#[inline]
pub fn word_of(bytes: &[u8]) -> u64 {
    if let Some(bytes) = bytes.first_chunk() {
        return u64::from_be_bytes(*bytes);
    }
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(word)
}

pub fn common_prefix<'a>(a: &'a [u8], b: &[u8]) -> &'a [u8] {
    &a[..a.iter().zip(b).take_while(|(a, b)| a == b).count()]
}

/// Where the words of each slot begin; a slot is what leading bits, behind those all words share,
/// have in common.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    prefix_word: u64,
    first: u64,
    last: u64,
    shift: u32,
    begins: Vec<u32>,
}

impl Slots {
    /// Indexes sorted words, of keys that have this prefix.
    pub fn new(prefix: &[u8], words: &[u64]) -> Self {
        let (Some(&first), Some(&last)) = (words.first(), words.last()) else {
            return Self::default();
        };
        let bits = (usize::BITS - words.len().leading_zeros() + 1).min(SLOT_BITS_MAX);
        let shift = (u64::BITS - (last - first).leading_zeros()).saturating_sub(bits);
        let mut begins = vec![0; ((last - first) >> shift) as usize + 2];
        for word in words {
            begins[((word - first) >> shift) as usize + 1] += 1;
        }
        let mut sum = 0;
        for count in &mut begins {
            sum += *count;
            *count = sum;
        }
        Self { prefix_word: word_of(prefix), first, last, shift, begins }
    }

    /// Counts the keys that are not greater than a key; `start` returns the key of a word, by its
    /// place.
    #[inline]
    pub fn count<'a>(
        &self,
        prefix: &[u8],
        words: &[u64],
        key: &[u8],
        start: impl Fn(usize) -> &'a [u8],
    ) -> usize {
        match self.compare_prefix(prefix, key) {
            Ordering::Less => 0,
            Ordering::Greater => words.len(),
            Ordering::Equal => self.count_by_word(words, word_of(&key[prefix.len()..]), key, start),
        }
    }

    /// Compares as many leading bytes of a key as the prefix has with the prefix. A short one is
    /// compared as a number: to call a function for it costs more than all the rest of a look-up.
    #[inline]
    fn compare_prefix(&self, prefix: &[u8], key: &[u8]) -> Ordering {
        let bytes = prefix.len();
        match key.first_chunk::<8>() {
            _ if bytes == 0 => Ordering::Equal,
            Some(head) if bytes <= 8 => {
                let unused = 64 - 8 * bytes as u32;
                (u64::from_be_bytes(*head) >> unused).cmp(&(self.prefix_word >> unused))
            }
            Some(_) | None => key[..key.len().min(bytes)].cmp(prefix),
        }
    }

    #[inline]
    fn count_by_word<'a>(
        &self,
        words: &[u64],
        word: u64,
        key: &[u8],
        start: impl Fn(usize) -> &'a [u8],
    ) -> usize {
        let (low, high) = self.bounds(word, words.len());
        let count = low + words[low..high].partition_point(|it| *it <= word);
        if count == low || words[count - 1] != word {
            return count;
        }
        let (mut low, mut high) = (low + words[low..count].partition_point(|it| *it < word), count);
        while low < high {
            let middle = low.midpoint(high);
            match start(middle) <= key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// Returns between which words a word belongs, if there are any.
    #[inline]
    fn bounds(&self, word: u64, words: usize) -> (usize, usize) {
        if word < self.first || words == 0 {
            (0, 0)
        } else if word > self.last {
            (words, words)
        } else {
            let slot = ((word - self.first) >> self.shift) as usize;
            (self.begins[slot] as usize, self.begins[slot + 1] as usize)
        }
    }
}
