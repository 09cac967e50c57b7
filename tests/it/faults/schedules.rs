//! Times: cron nicknames, clock changes, catch-up after a stop, schedules that are edited and paused.
