//! How many responses a user may hold open on a node: as many as sockets.

use protocol::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open responses by user.
#[derive(Default)]
pub(crate) struct Places {
    taken: Mutex<HashMap<UserId, usize>>,
}

/// One open response; given back when dropped.
pub(super) struct Place {
    user: UserId,
    places: Arc<Places>,
}

impl Places {
    /// `None` where the user holds `limit` already.
    pub(super) fn take(self: &Arc<Self>, user: &UserId, limit: usize) -> Option<Place> {
        let mut taken = self.lock();
        let count = taken.get(user).copied().unwrap_or_default();
        if count >= limit {
            return None;
        }
        taken.insert(user.clone(), count + 1);
        Some(Place { user: user.clone(), places: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match taken.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_places_and_gets_them_back() {
        let places = Arc::new(Places::default());
        let (alice, bob) = (UserId::new("alice"), UserId::new("bob"));
        let first = places.take(&alice, 2).unwrap();
        let _second = places.take(&alice, 2).unwrap();
        assert!(places.take(&alice, 2).is_none());
        let bobs = places.take(&bob, 2).unwrap();
        drop((first, bobs));
        assert!(places.take(&alice, 2).is_some());
        assert_eq!(places.lock().len(), 1, "who holds none costs nothing");
    }
}
