//! Many jobs of one kind on several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a job can fail with.
pub(crate) trait Failure: Send {
    /// A thread ended early.
    fn broken() -> Self;

    /// It only tells that something else failed or was asked to end, which is the better answer.
    fn is_consequence(&self) -> bool {
        false
    }
}

/// Calls `job` with 0 to `count - 1`, on up to `threads` threads, and returns the results in that order.
///
/// After an error nothing new is begun. Of several errors that of the lowest number is returned, consequences last.
/// With one thread all is done by the caller's.
pub(crate) fn in_parallel<T: Send, E: Failure>(
    threads: usize,
    count: usize,
    job: &(dyn Fn(usize) -> Result<T, E> + Sync),
) -> Result<Vec<T>, E> {
    if threads.min(count) <= 1 {
        return (0..count).map(job).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let result = job(number);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            done.push((number, result));
        }
        done
    };
    let mut done = Vec::new();
    std::thread::scope(|scope| -> Result<(), E> {
        let workers: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            done.extend(worker.join().map_err(|_| E::broken())?);
        }
        Ok(())
    })?;
    done.sort_by_key(|(number, result)| (result.as_ref().is_err_and(E::is_consequence), *number));
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::Error;

    #[test]
    fn results_are_in_order_and_errors_stop() {
        for threads in [1, 3] {
            let squares = in_parallel::<_, Error>(threads, 10, &|n| Ok(n * n)).unwrap();
            assert_eq!(squares, (0..10).map(|n| n * n).collect::<Vec<_>>());
            let begun = AtomicUsize::new(0);
            let failing = in_parallel(threads, 1000, &|n| {
                begun.fetch_add(1, Ordering::Relaxed);
                if n == 2 { Err(Error::NoImage("x".into())) } else { Ok(()) }
            });
            assert!(matches!(failing, Err(Error::NoImage(_))));
            assert!(begun.load(Ordering::Relaxed) < 1000);
        }
        assert!(in_parallel::<(), Error>(4, 0, &|_| Err(Error::Thread)).unwrap().is_empty());
    }
}
