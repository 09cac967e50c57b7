//! The difference between two states of a list, applied as clients do.

use proptest::prelude::*;
use sortie::kernel::page::Difference;
use uuid::Uuid;

fn apply(before: &[Uuid], difference: &Difference) -> Vec<Uuid> {
    let mut list: Vec<Uuid> = before.iter().copied().filter(|id| !difference.left.contains(id)).collect();
    for (id, after) in &difference.entered {
        list.retain(|other| other != id);
        let at = after.map_or(0, |after| list.iter().position(|other| *other == after).unwrap() + 1);
        list.insert(at, *id);
    }
    list
}

fn ids(numbers: &[u128]) -> Vec<Uuid> {
    numbers.iter().copied().map(Uuid::from_u128).collect()
}

/// Some of fifteen ids in some order.
fn list() -> impl Strategy<Value = Vec<Uuid>> {
    let all = Just((1..16).collect::<Vec<u128>>()).prop_shuffle();
    (all, 0..16usize).prop_map(|(all, count)| ids(&all[..count.min(all.len())]))
}

proptest! {
    #[test]
    fn it_leads_from_one_list_to_the_other(before in list(), after in list()) {
        prop_assert_eq!(apply(&before, &Difference::between(&before, &after)), after);
    }
}

#[test]
fn as_few_as_possible_move() {
    let difference = Difference::between(&ids(&[1, 2, 3, 4, 5]), &ids(&[5, 1, 2, 6, 4]));
    let entered = vec![(Uuid::from_u128(5), None), (Uuid::from_u128(6), Some(Uuid::from_u128(2)))];
    assert_eq!(difference, Difference { left: ids(&[3]), entered });
    assert_eq!(Difference::between(&ids(&[1, 2]), &ids(&[1, 2])), Difference::default());
}
