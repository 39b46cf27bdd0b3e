"""Every bound with the reason for its value. Durations in the unit of their name, sizes in bytes."""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# --- spec -------------------------------------------------------------------------------------------------------------------------
SPEC_BYTES_MAX = 1 * MIB  # 930 KB of YAML take 3 s to parse; no hand-written graph comes near
SPEC_NESTING_MAX = 64  # libyaml's C loader overflows its stack on deep nesting; counted from events before it builds anything
SPEC_EVENTS_MAX = 200_000  # bounds the time of a hostile spec; a node takes about 12 events
FLAT_ID_PATTERN = r"[a-z][a-z0-9_-]{0,31}(\.[a-z0-9][a-z0-9_-]{0,31}){0,15}"  # of a node that for_each or include has made
ID_PATTERN = r"[a-z][a-z0-9_-]{0,31}"  # fits into socket paths, metric labels and `ps`; always used with fullmatch
NODES_MAX = 4096  # one process each; a box runs out of memory before
EDGES_PER_PORT_MAX = 32  # edges_pending is a 32-bit mask

# --- plugins ------------------------------------------------------------------------------------------------------------------------
PLUGIN_CHARS_MAX = 200  # of a name, as it stands in messages and on every page of the plan
PLUGIN_S = 20.0  # to import one plugin where it is read; torch from a slow card takes 15
MANIFEST_BYTES_MAX = 4 * MIB  # what one plugin may declare, or answer to one config; a spec has 1 MiB at most
MANIFESTS_MAX = 512  # kept in the user's cache, of 2 to 10 KiB each

# --- packets and messages -----------------------------------------------------------------------------------------------------------
META_BYTES = 8 * KIB  # metadata of one packet, default; larger JSON payloads go to a slot
INLINE_BYTES_MAX = 1 * KIB  # bytes up to here travel in the metadata: copying and checking them costs less than a view of a slot
MESSAGE_BYTES_MAX = 64 * KIB  # that an inbox or the control socket takes: metadata only, frames never travel this way
STRANGERS_MAX = 256  # connections to an inbox beside those of its peers: each takes a descriptor
META_BYTES_MAX = 60 * KIB  # what a message can carry of one packet
BATCH_BYTES_MAX = 32 * KIB  # DATA records that share one message; with one META_BYTES record on top still below the above
NDIM_MAX = 8  # an array of more axes is a mistake; bounds the descriptor
KIND_CHARS_MAX = 64
SOURCE_ID_CHARS_MAX = 128
TRACE_EVERY_NS = 20_000_000  # between two packets of a port that begin a trace: every frame of a camera, and no cost where 100,000/s flow
TRACE_BURST_NS = 1_000_000_000  # so much of it may come at once: all packets of a burst, not only its first
TRACE_HOPS_MAX = 64

# --- rings -------------------------------------------------------------------------------------------------------------------------
SLOT_BYTES = 32 * MIB  # an upper bound only: pages that no frame has touched cost nothing; an 8K YUV frame is 50 MB
SLOT_BYTES_MAX = 1 * GIB
WARM_BYTES = 3 * MIB // 8  # who has let go of so much says so at once: to write where the cache is not costs more than a message
WARM_BYTES_DEEP = 4 * WARM_BYTES  # the same on an edge where packets share messages: what waits for company has left the near cache
WARM_NS = 250_000  # if WARM_BYTES were let go of in so short a time: later others have used the cache; receipts had better share a message
ENTRIES_MAX = 4096  # times META_BYTES is 32 MiB of metadata room, all of it sparse
PAGE_BYTES = 4096
TAPS_PER_PORT_MAX = 4  # each brings a slot of address space to every ring, which nothing touches until a tap is attached
LOANS = 2  # slots a node may hold while it fills them: the new one, and the last one its local variable still names

# --- edges -------------------------------------------------------------------------------------------------------------------------
DEPTH_FRAMES = 8  # packets that wait at a consumer, by default, on ports that can carry arrays
DEPTH_SMALL = 128  # the same for JSON and bytes: a message then carries up to 16 packets; 60,000/s and more where 64 gave 47,000
DEPTH_MAX = 1024
SHM_SHARE = 0.5  # of what is available: past RAM the kernel answers with a global OOM kill, not with an error

# --- processes -----------------------------------------------------------------------------------------------------------------------
STARTUP_S = 60.0  # until ready: a model on a slow card may load for half a minute
DRAIN_S = 10.0  # what `docker stop` grants before it kills
TERM_S = 1.0  # between TERM and KILL
IPC_PATH_BYTES_MAX = 107  # sun_path is 108 with its NUL
RECEIPT_IDLE_MS = 50  # receipts of an idle consumer wait so long for company; longer than a frame at 25 fps
POLL_MS_MAX = (1 << 31) - 1  # the kernel counts a wait in an int; whoever waits for longer waits again
LOG_BYTES = 16 * MIB  # of one node's log on the disk, or in memory where run directories lie there; some 150,000 lines
LOG_KEPT_BYTES = 8 * MIB  # what is left of it when it is trimmed; so much less that this is not in every round
LOG_TAIL_LINES = 20  # of a failed node, printed at the end
USER_METRICS_MAX = 32  # named slots on a status page
SPANS_MAX = 1024  # of traced packets on a status page: the last 20 s of one source, 80 KiB if they are all used
TRACED_SPANS_MAX = 16 * SPANS_MAX  # kept by an exporting coordinator of packets that are still on their way: 5 MB
