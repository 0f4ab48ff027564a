-- One at a time may declare: who waits sees what the one before has made.
SELECT pg_advisory_xact_lock(hashtextextended('brokerq topology {schema}', %(app)s))
