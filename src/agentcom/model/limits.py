"""Every bound of the product, with its unit and its reason."""

from typing import Final

# Leases: a lost machine is noticed, and its work given on, within 30 s.
LEASE_TTL_MS: Final = 20_000
LEASE_TTL_MIN_MS: Final = 1_000  # below, a busy laptop loses leases to its own scheduler
LEASE_TTL_MAX_MS: Final = 600_000  # external agents renew by their calls
LEASE_PARTS: Final = 4  # heartbeat interval and safety margin are TTL / 4
SUSPECT_MISSED: Final = 2  # heartbeats missed before no new work is sent
RESTART_GRACE_MS: Final = 90_000  # holders of a stored attempt get this after a hub start
RESTART_GRACE_SHORT_MS: Final = 5_000  # ... in a fleet whose leases are shorter than the default

# Attempts.
ATTEMPT_DEADLINE_MS: Final = 3_600_000  # an agent that works longer is stuck more often than not
ATTEMPT_DEADLINE_MIN_MS: Final = 1_000
DEADLINE_LOOK_MS: Final = 100  # each look goes through all attempts: some milliseconds for 10,000
ATTEMPT_DEADLINE_MAX_MS: Final = 7 * 86_400_000
FAILURES_MAX: Final = 3  # attempts that ran and failed, before the task is a dead letter
FAILURES_BOUND: Final = 100  # what `failures_max` may ask for
LEASES_LOST_MAX: Final = 5  # attempts whose machine vanished: a task that kills its machine
CRASHED_ON_MAX: Final = 3  # different agents that crash on a task, before it is a dead letter
HOLDERS_MAX: Final = 16  # earlier holders of a task that are remembered, for late results
ORPHANS_MAX: Final = 1_000  # results of unknown tasks that one machine may leave at a hub
LANDING_BATCH_MS: Final = 10_800_000  # several at once: halving to find a bad one verifies again
LANDING_MS: Final = 2_700_000  # a landing: a fetch, a verification of 15 min, some pushes
RETRY_BASE_MS: Final = 5_000
RETRY_MAX_MS: Final = 300_000
QUOTA_RETRY_MS: Final = 300_000  # a quota without a stated reset is tried again after this
QUOTA_RETRY_MAX_MS: Final = 3_600_000  # ... and twice as late each time, up to here
QUOTA_PARK_MAX_MS: Final = 8 * 86_400_000  # a week is the longest window; later it is tried anyhow
ACCOUNT_CHARS: Final = 200
STOP_CONFIRM_MS: Final = 10_000  # a machine saves work and ends processes in some seconds
DECLINE_RETRY_MS: Final = 5_000  # a machine that cannot start a task now gets others first

# Scheduling.
PRIORITY_MAX: Final = 10
PRIORITY_STEP: Final = 8.0  # one step of priority is worth this many task costs
TURN_FACTS_MAX: Final = 512  # facts decided in one batch: bounds latency and the batch's size
INBOX_MAX: Final = 8_192  # facts waiting for a decision; then submitters are not read any more
WAIT_SHORT_MS: Final = 100  # a request's wait for its turn: below it there is nothing to refuse
WAIT_BUSY_MS: Final = 500  # ... above it requests beyond a share are: a tenth of a heartbeat's time
WAIT_FULL_MS: Final = 2_000  # ... and here all submits and reads: reports wait as long as they
OVERLOAD_WINDOW_MS: Final = 250  # shares are for this long: a few of the longest turns
OVERLOAD_RETRY_MS: Final = 1_000  # HTTP can say no less
OVERLOAD_QUIET_MS: Final = 2_500  # without a refusal: who was told to wait has come back by then
REFUSED_ROW_MAX: Final = 8  # refusals of one connection in a row: then it is not read for a window
CASCADE_INLINE: Final = 32  # dependants released in the batch that ended their dependency
CASCADE_BATCH: Final = 128  # the rest, per turn
BULK_TASKS_MAX: Final = (
    10_000  # of one act on many: its todo is 350 KB then, and is written 40 times
)
BULK_LOOK_MAX: Final = 100_000  # rows that the choice of them may look at: some seconds
BULKS_KEPT: Final = 64  # acts whose counts can be asked for after they are done
BULK_REFUSALS: Final = 20  # refusals of one act that are told, each with its task
QUARANTINE_FAILURES: Final = 3  # different tasks that an agent fails in a row, of its own fault
QUARANTINE_MS: Final = 2 * 60_000  # before it tries one task again; doubled each time it fails
QUARANTINE_MAX_MS: Final = 3_600_000  # so a broken agent costs at most 24 attempts a day
RECENT_REPLY_BYTES: Final = 256  # an answer of more is not kept in memory beside its key
WHOLE_TASKS: Final = 16_384  # live ones in memory, some 10 MB; of more, those that queue are cut
KINDS_OF_TASKS: Final = 16_384  # of each a whole task is kept, beside which others are cut
RECENT_KEYS: Final = 65_536  # request keys remembered in memory, beside those in the store

LANES_MAX: Final = 100_000  # different sets of limits among queued tasks: 1 KiB of memory each
LANES_SHOWN: Final = 64  # of each shape, behind each gate: twice what is offered to reviewers
LANES_LOOKED_AT: Final = 256  # in one search for the next to show; then others get their turn
AHEAD_COUNTED: Final = 2_048  # tasks and lanes counted for a place in the queue: 1 ms; more, about
LANES_COUNTED: Final = 512  # ... and of more lanes than this each stands for some others
AHEAD_SAMPLED: Final = 1_024  # ... by so many of them
RULES_MAX: Final = 1_000  # limits that people set
KEYS_MAX: Final = 8  # keys of one task: each is looked up when it starts and when it ends
KEY_CHARS: Final = 100
USES_MAX: Final = 8  # named resources of one task or machine
PREFERS_MAX: Final = 16
WEIGHT_MAX: Final = 1_000
SCOPE_GLOBS_MAX: Final = 32  # patterns of one task: each is compared with those that are held
SCOPE_GLOB_CHARS: Final = 200
TOUCHED_MAX: Final = 200  # paths of one checkpoint that are told; of more only the number
TOUCHED_BYTES: Final = 32_768  # ... and their length together, so that they fit into a frame
TOUCHERS_MAX: Final = 1_000  # attempts whose touched paths are remembered
OVERLAPS_MAX: Final = 32  # other tasks that one attempt is told of
TOUCHED_PATH_CHARS: Final = 500  # a longer path is counted, not told
OVERLAP_CELLS: Final = 1_000_000  # characters of a path times those of patterns: under 200 ms
OVERLAP_PATHS: Final = 5  # paths that a notice names
CLASH_PATHS: Final = 20  # files in conflict with one other task that are told
NOTICE_CHARS: Final = 1_000
NOTICES_BYTES: Final = 16_384  # of one attempt, on its machine
WAITS_MAX: Final = 500  # tasks in one picture of who waits for whom
WAITS_ON_MAX: Final = 20  # ... and what each of them waits for, of one kind
MOVED_MAX: Final = 400  # tasks found behind a limit in one look; then others get their turn
WARM_REPOSITORIES: Final = 256  # whose latest machines are remembered
WARM_MACHINES: Final = 8  # per repository

# What work costs.
TURNS_MAX: Final = 256  # turns of one attempt that are reported one by one; the rest is one more
TOKENS_MAX: Final = 1_000_000_000_000  # of one turn; sums of a million such fit into 64 bits
TURN_WALL_MAX_MS: Final = 7 * 86_400_000  # no attempt lives longer
MODEL_CHARS: Final = 100
TASK_TOKENS: Final = 200_000_000  # what a task may spend if nobody said: some days of one agent
TASK_COST_MICROS: Final = 50_000_000  # 50 dollars, likewise: a runaway ends, honest work does not
TASK_WALL_MS: Final = 7 * 86_400_000  # likewise
TASK_TURNS: Final = 1_000  # likewise
BUDGET_MAX: Final = 1_000_000_000_000_000  # of any amount: sums stay far below 64 bits
BUDGETS_MAX: Final = 1_000  # all are in memory, and each turn looks at those of its scopes
TURN_TOKENS: Final = 200_000  # what a running attempt is taken to spend until it reports: a turn
TURN_COST_MICROS: Final = 500_000  # ... of a large model, half a dollar
TURN_WALL_MS: Final = 600_000  # ... and ten minutes
COST_GROUPS_MAX: Final = 1_000  # rows of one table of costs

# Time: schedules, and work that succeeds again and again without changing anything.
LOOP_UNCHANGED: Final = 8  # completions in a row without a new commit, then a person is asked
LOOP_PER_HOUR: Final = 60  # ... or more often than this, each begun after the one before ended
LOOP_LINEAGES: Final = 4_096  # lineages whose completions are counted; beyond, the newest
SCHEDULES_MAX: Final = 10_000  # schedules of one project
CRON_CHARS: Final = 100
ZONE_CHARS: Final = 64
SCHEDULE_LATE_MS: Final = 60_000  # a run that is later than this was missed
SCHEDULE_MISSED_RUNS: Final = 100  # of a schedule that makes up for all, the newest
SCHEDULE_BATCH: Final = 64  # schedules that fire together: bounds what waits for one commit
SCHEDULE_RETRY_MS: Final = 5_000  # a hub that cannot store now is asked again after this
SCHEDULE_NEXT: Final = 5  # coming times that are shown

# Text and lists (reference: OWASP API4, unrestricted resource consumption).
TITLE_CHARS: Final = 200
PROMPT_BYTES: Final = 65_536
COMMAND_ARGS: Final = 256
COMMAND_BYTES: Final = 32_768
NEEDS_MAX: Final = 64
LABELS_MAX: Final = 16
LABEL_BYTES: Final = 1_024
DEPENDENCIES_MAX: Final = 100
DEPTH_MAX: Final = 64
SUBMIT_TASKS_MAX: Final = 1_000
SUBTASK_DEPTH: Final = (
    5  # agents that ask agents that ask ...: deeper is a loop more often than not
)
SUBTASKS_PER_TASK: Final = 100  # what one task's agents may ask for, in all its attempts
SUBTASKS_PER_ROOT: Final = 1_000  # ... and all that comes of a person's one task
GROUP_CHARS: Final = 64
GRAPH_TASKS_MAX: Final = 1_000  # tasks of one graph that are shown
VERIFY_COMMANDS_MAX: Final = 16
CORRECTIONS: Final = 2  # turns in which an agent mends what its checks found, if nobody says more
CORRECTIONS_MAX: Final = 5  # an agent that needs more does not know how: another one may
LAND_BATCH_MAX: Final = 16  # tasks that one verification serves: with more, one bad one costs more
REASON_CHARS: Final = 2_000
SUMMARY_CHARS: Final = 8_000
NOTE_CHARS: Final = 1_000  # last words of an attempt: each change of the task writes them again
UNIQUE_KEY_CHARS: Final = 200
REQUEST_KEY_CHARS: Final = 128
REQUEST_KEY_KEEP_MS: Final = 7 * 86_400_000
AGENTS_PER_MACHINE: Final = 64
SLOTS_MAX: Final = 64
HELD_MAX: Final = 4_096  # fences in one heartbeat
RESULTS_KEPT: Final = 32  # results of one task that are shown

# Messages.
MESSAGE_BYTES: Final = 65_536  # as a prompt: longer texts are attachments
RECIPIENTS_MAX: Final = 64  # named ones of one message; more is a broadcast or a channel
BROADCAST_MAX: Final = 10_000  # agents that one message goes to: a second of writing
ATTACHMENTS_MAX: Final = 16
MAILBOX_MAX: Final = 100_000  # messages of one mailbox that nobody took; then senders are refused
MAILBOX_BYTES: Final = 268_435_456  # ... or their bodies together
MAILBOX_RETRY_MS: Final = 60_000  # whoever let so much lie does not read it within seconds
MESSAGE_EXPIRES_MS: Final = 90 * 86_400_000  # if its sender said nothing
MESSAGE_KEEP_MS: Final = 30 * 86_400_000  # of history: since nobody has to take it any more
INBOX_BYTES: Final = 196_608  # of one page of messages: it fits into a frame
INBOX_STEPS: Final = 16  # pages of a mailbox that one read looks through for what is open
LOOP_TURNS: Final = 16  # of two agents that only answer each other; then nobody is woken
WAKES_MAX: Final = 30  # of one agent: it costs a turn each time
WAKES_MS: Final = 3_600_000  # ... in this time
MAIL_TURNS_MAX: Final = 8  # turns of one attempt that letters begin; more is chatter, not work
EXCHANGES_MAX: Final = 4_096  # pairs of agents that are watched for loops; the oldest go
LETTERS_AHEAD: Final = 32  # letters of one agent that its machine has not confirmed
LETTERS_TAKEN: Final = 1_000  # letters of one mailbox that are confirmed and not noted yet
SETTLE_STEP: Final = 256  # places of a mailbox that one write looks at
CHANNELS_MAX: Final = 1_000  # of one project
CHANNEL_MEMBERS_MAX: Final = 10_000  # of one channel
PINS_MAX: Final = 50  # of one channel
NOTES_MAX: Final = 10_000  # of one project
NOTE_VERSIONS_MAX: Final = 1_000  # of one note; the oldest go
NOTES_KEEP_MS: Final = 30 * 86_400_000  # a deleted note can be read by number for so long
BLOBS_BYTES: Final = 1_073_741_824  # of one project
BLOB_KEEP_MS: Final = 90 * 86_400_000  # since it was last sent: as long as a message may wait
INDEX_STEP: Final = 500  # rows made searchable in one step: some tens of milliseconds
INDEX_STEPS: Final = 4  # ... that one search waits for
PRESENCE_MS: Final = 250  # between two looks at who is there: people see no difference
WATCHERS_MAX: Final = 256  # different things that are asked for by those who follow presence
HOST_FACTS_MAX: Final = 12  # that a machine tells of its host: 100 of them fit into a frame
HOST_CHARS: Final = 80  # ... of a name or a value
LOCK_GLOBS_MAX: Final = 32  # of one lock
LOCKS_MAX: Final = 10_000  # of one pool, those that wait included: all are in memory
LOCKS_PER_OWNER: Final = 64  # of one attempt, or one person
LOCK_PATTERNS_MAX: Final = 500  # of one repository, or a project's names: each is compared
LOCK_WAITERS_MAX: Final = 64  # likewise: whatever ends there, all of them are looked at
LOCK_TTL_MAX_MS: Final = 7 * 86_400_000  # a person who needs it longer renews it
LOCK_QUEUE_MS: Final = 60_000  # a place in the queue, if nobody said; asked again, it stays
ASK_OPTIONS_MAX: Final = 16
ASK_BYTES: Final = 4_096  # of a question or an answer: several of them fit in one assignment
ASK_HOLD_MS: Final = 120_000  # an attempt that asks keeps its slot so long; most answers are quick
PERMISSION_MS: Final = 90_000  # an agent waits so long for a person's yes: less than ASK_HOLD_MS
ASK_DEADLINE_MS: Final = 7 * 86_400_000  # of a question that names none: no task waits for ever
ASKS_MAX: Final = 5_000  # open ones of a pool: they are in memory
ASKS_PER_TASK: Final = 4  # ... of one task
ASKS_PER_ASKER: Final = 100  # ... of one agent or person
ASKS_TOLD: Final = 8  # ended ones that the next attempt of their task hears of, the newest
ASKS_KEEP_MS: Final = 30 * 86_400_000  # an ended question can be read for so long
REVIEWS_TOLD_MS: Final = 60_000  # a machine hears again what it watches: some bytes for each
REVIEWS_KEPT_MS: Final = 600_000  # what it has not heard of for so long it watches no more
REVIEWS_LEFT_MS: Final = 180_000  # a machine away for so long passes on what it watches
REVIEW_ROUNDS_MAX: Final = 20  # times that review sends a task back; then a person must look
SILENCES_MAX: Final = 200  # that are not over: a list that a person can read
SILENCE_MAX_MS: Final = 30 * 86_400_000  # what is quiet for longer should be off
ALERTS_KEEP_MS: Final = 30 * 86_400_000  # an alert that is over can be read for so long
DESTINATIONS_MAX: Final = 50  # of one hub: each may have a connection of its own
NOTICES_MAX: Final = 1_000  # that wait for one destination; they become one digest
WAIT_MAX_MS: Final = 25_000  # a call that waits is answered before clients and proxies give up
AUDIT_REFUSALS: Final = 16  # different ones that are told apart in a time; others are one count
AUDIT_PAUSE_MS: Final = 60_000  # ... which is this, twice as long each time that there are more
AUDIT_PAUSE_MAX_MS: Final = 3_600_000  # so that a flood without end costs some 200 KB a day
AUDIT_KEEP_DAYS: Final = 400  # of entries: a year, and time to look back at it

# Wire.
FRAME_BYTES: Final = 262_144
PAGE_MAX: Final = 100
LOG_PART_BYTES: Final = 65_536
"""Of a log in one answer of a machine: escaped it grows twofold at most, and fits into a frame."""
LOG_TAIL_BYTES: Final = 262_144
