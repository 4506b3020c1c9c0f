-- Schema 6. What waits for its time is counted apart from what waits for another try.

CREATE INDEX waiting_scheduled ON waiting (destination) WHERE why = 'schedule';
