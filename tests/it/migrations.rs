//! Migrations go up, down and up again, and bear being run twice.

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database, Statement};

use crate::harness::{Kind, place};

both! {
    async fn up_down_up(kind) {
        let (folder, url) = place(kind).await;
        let url = if kind == Kind::Sqlite { format!("{url}?mode=rwc") } else { url };
        let db = Database::connect(&url).await.unwrap();
        let tables = async || {
            let sql = match kind {
                Kind::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'seaql%' AND name NOT LIKE 'sqlite%'",
                Kind::Postgres => "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'seaql%'",
            };
            let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
            row.try_get_by_index::<i64>(0).unwrap()
        };
        Migrator::up(&db, None).await.unwrap();
        let all = tables().await;
        assert_eq!(all, 25);
        Migrator::up(&db, None).await.unwrap();
        Migrator::down(&db, None).await.unwrap();
        assert_eq!(tables().await, 0);
        Migrator::up(&db, None).await.unwrap();
        assert_eq!(tables().await, all);
        // A crash inside a step leaves it half done and not noted down: it is run again, and finds its way.
        db.execute_unprepared("DELETE FROM seaql_migrations").await.unwrap();
        db.execute_unprepared("DROP TABLE import_seen").await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        assert_eq!(tables().await, all);
        db.close().await.unwrap();
        let _ = std::fs::remove_dir_all(folder);
    }
}
