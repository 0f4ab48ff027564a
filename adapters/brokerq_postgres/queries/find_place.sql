-- Which database this is, and how its transaction is set up.
SELECT
    (SELECT system_identifier FROM pg_control_system()), current_database()::text,
    current_setting('transaction_isolation'), current_setting('lock_timeout')
