//! Looks for a shorter sequence that still fails: what is not needed is left out.
//!
//! A failure that depends on time may be taken for one that is gone, and is then left longer than it need be.

use super::operation::Operation;

/// How many sequences may be tried.
const TRIES: usize = 4000;

/// Leaves out one operation after the other, with and without what is inside of it, for as long as `fails` says so.
pub(super) fn shortest(
    mut operations: Vec<Operation>,
    fails: impl Fn(&[Operation]) -> bool,
) -> Vec<Operation> {
    let (mut place, mut tries) = (0, 0);
    'next: while place < count(&mut operations) && tries < TRIES {
        for keeps_inside in [false, true] {
            tries += 1;
            let candidate = without(&operations, &mut place.clone(), keeps_inside);
            if fails(&candidate) {
                operations = candidate;
                continue 'next;
            }
        }
        place += 1;
    }
    operations
}

fn count(operations: &mut [Operation]) -> usize {
    let inside = operations.iter_mut().filter_map(Operation::inside);
    let nested: usize = inside.map(|inside| count(inside)).sum();
    operations.len() + nested
}

/// All but the one that comes after `place` others, where an operation comes before what is inside of it.
fn without(operations: &[Operation], place: &mut usize, keeps_inside: bool) -> Vec<Operation> {
    let mut left = Vec::new();
    for operation in operations {
        let mut operation = operation.clone();
        let is_it = *place == 0;
        *place = place.wrapping_sub(1);
        if let Some(inside) = operation.inside() {
            if is_it && keeps_inside {
                left.append(inside);
            } else if !is_it {
                *inside = without(inside, place, keeps_inside);
            }
        }
        if !is_it {
            left.push(operation);
        }
    }
    left
}
