SELECT
    set_config('statement_timeout', %(statement_timeout)s::text, true),
    set_config('lock_timeout', %(lock_timeout)s::text, true),
    set_config(
        'idle_in_transaction_session_timeout',
        %(idle_in_transaction_session_timeout)s::text,
        true
    )
