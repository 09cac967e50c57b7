//! Invariants that hold after any test: the same checker as `sortie check`.

use super::World;

/// Checks all invariants in one snapshot.
pub async fn check(world: &World) {
    let found = sortie::app::check::check(&world.db).await.unwrap();
    let wrong: Vec<_> = found.iter().filter(|one| one.wrong > 0).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(found.len() > 10 && found[0].looked_at > 0);
}
