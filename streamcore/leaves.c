/* The leaves of the inner loop: what every packet does to bytes and to words of shared memory, beside which their Python costs most.

Each function here stands for one of the same name in Python, which `learn` was given: native.take_over puts these in its place. A leaf does
the plain case only. Whatever it finds unusual, wrong or hostile it hands, with all its arguments, to the Python, which either does it or
raises the error that it always raised. So there is one text of every rule, and a leaf has none of its own.

Nothing here keeps a packet, or takes a lock. All of it runs under the GIL, but for waiting. */

#define _GNU_SOURCE /* recvmmsg */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h> /* PyMemberDef, before 3.12 */
#if PY_VERSION_HEX < 0x030B0000
#include <longintrepr.h>
#endif
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---------------------------------------------------------------------------------------------------- the Python that a leaf stands for */

enum Leaf {
    SEALED, UNSEALED, DATA_ONE, DATA_MANY, RECEIPT, READ_HEADER, READ_DATA, READ_RECEIPT, PUT_ROW, CLEAR_PENDING, VOUCHED, NOTE, PUT_SPAN,
    ENCODE_PACKET, FIELDS_OF, OPEN_PACKET, NEW_PACKET, MAKE_IDS, LEND, BORROW, LOAN_REF, HAS_FORM, GATHER, TRANSMIT, LEAVES
};
static const char *const leaf_names[LEAVES] = {
    "sealed", "unsealed", "data_one", "data_many", "receipt", "read_header", "read_data", "read_receipt", "put_row",
    "clear_pending", "vouched", "note", "put_span", "encode_packet", "fields_of", "open_packet", "new_packet", "make_ids", "lend", "borrow",
    "loan_ref", "has_form", "gather", "transmit",
};
static PyObject *python_of[LEAVES];

static PyObject *by_python_with(enum Leaf leaf, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    if (python_of[leaf] == NULL)
        return PyErr_Format(PyExc_RuntimeError, "%s was not learnt", leaf_names[leaf]);
    return PyObject_Vectorcall(python_of[leaf], args, count, keywords);
}

static PyObject *by_python(enum Leaf leaf, PyObject *const *args, Py_ssize_t count) { return by_python_with(leaf, args, count, NULL); }

/* A number of one or two digits, as nearly all are, without a call. */
static inline bool short_number(PyObject *object, uint64_t *found)
{
#if PY_VERSION_HEX >= 0x030C0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)object) || PyUnstable_Long_CompactValue((PyLongObject *)object) < 0)
        return false;
    *found = (uint64_t)PyUnstable_Long_CompactValue((PyLongObject *)object);
#else
    const digit *digits = ((PyLongObject *)object)->ob_digit;
    Py_ssize_t size = Py_SIZE(object);
    if (size < 0 || size > 2)
        return false;
    *found = size == 0 ? 0 : size == 1 ? digits[0] : digits[0] | (uint64_t)digits[1] << PyLong_SHIFT;
#endif
    return true;
}

/* A number that fits; false, with no error set, for everything else, bool included. */
static bool number(PyObject *object, uint64_t most, uint64_t *found)
{
    if (!PyLong_CheckExact(object))
        return false;
    if (short_number(object, found))
        return *found <= most;
    *found = PyLong_AsUnsignedLongLong(object);
    if (*found == (uint64_t)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return *found <= most;
}

#define BYTE 0xFFu
#define WORD16 0xFFFFu
#define WORD32 0xFFFFFFFFu
#define WORD64 0xFFFFFFFFFFFFFFFFu

static bool of_32_bits(PyObject *bytes) { return PyBytes_CheckExact(bytes) && (uint64_t)PyBytes_GET_SIZE(bytes) <= WORD32; }

static inline void put16(char *at, uint64_t value) { uint16_t v = (uint16_t)value; memcpy(at, &v, 2); }
static inline void put32(char *at, uint64_t value) { uint32_t v = (uint32_t)value; memcpy(at, &v, 4); }
static inline void put64(char *at, uint64_t value) { memcpy(at, &value, 8); }
static inline uint64_t get16(const char *at) { uint16_t v; memcpy(&v, at, 2); return v; }
static inline uint64_t get32(const char *at) { uint32_t v; memcpy(&v, at, 4); return v; }
static inline uint64_t get64(const char *at) { uint64_t v; memcpy(&v, at, 8); return v; }

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "messages and rings are little-endian"
#endif

/* ---------------------------------------------------------------------------------------------------- the classes that leaves look into */

enum { KIND_CHARS_MAX = 64, SOURCE_ID_CHARS_MAX = 128, ID_BYTES = 16, NDIM_MAX = 8, META_FIELDS = 10, REF_FIELDS = 7 };
enum { RING_HEADER_BYTES = 4096, ROW_FREE = 0, ROW_WRITING = 1, ROW_COMMITTED = 2 }; /* SYNC: shm.layout, as the next line */
enum { STATE_U32 = 2, PENDING_U32 = 3, ENTRY_U32 = 16, STATE_U64 = 1, ENTRY_U64 = 8 };

static PyTypeObject *packet_type, *ref_type;                          /* packet.StreamPacket, packet.SlotRef */
static PyObject *encode_any, *decode_any, *decode_own, *decode_trace; /* msgspec's, of a JSON value, of `meta`, of `trace` */

/* the first six as fields_of gives them */
enum {
    P_PAYLOAD, P_PARENT, P_POSITION, P_ID16, P_TRACE, P_REDELIVERED, P_KIND, P_SOURCE_ID, P_META, P_WALL_NS, P_CAPTURE_NS, PACKET_PLACES
};
static const char *const packet_fields[PACKET_PLACES] = {
    "payload", "parent", "position", "id16", "trace", "redelivered", "kind", "source_id", "meta", "wall_ns", "capture_ns",
};
static Py_ssize_t packet_place[PACKET_PLACES];
enum { R_RING, R_SLOT, R_OFFSET, R_NBYTES, R_DTYPE, R_SHAPE, R_STRIDES };
static const char *const ref_fields[REF_FIELDS] = {"ring", "slot", "offset", "nbytes", "dtype", "shape", "strides"};
static Py_ssize_t ref_place[REF_FIELDS];

/* Where objects of a class keep their fields, and keep the class. If it has no slots for them, as another msgspec may have it, the class
stays unknown here, and whatever needs it is done in Python. */
static void learn_places(PyObject *class, PyTypeObject **kept, const char *const *names, Py_ssize_t *places, int count)
{
    bool all = PyType_Check(class);
    for (int n = 0; all && n < count; n++) {
        PyObject *descriptor = PyObject_GetAttrString(class, names[n]);
        all = descriptor != NULL && Py_IS_TYPE(descriptor, &PyMemberDescr_Type) &&
              ((PyMemberDescrObject *)descriptor)->d_member->type == T_OBJECT_EX;
        places[n] = all ? ((PyMemberDescrObject *)descriptor)->d_member->offset : 0;
        Py_XDECREF(descriptor);
        PyErr_Clear();
    }
    Py_XSETREF(*kept, all ? (PyTypeObject *)Py_NewRef(class) : NULL);
}

/* Borrowed; NULL if it was deleted. */
static inline PyObject *field_of(PyObject *object, Py_ssize_t place) { return *(PyObject **)((char *)object + place); }

/* --------------------------------------------------------------------------------------------------------------- words of shared memory */

/* A memoryview of format B, I or Q of which single elements are stored and read whole, and slices as the memoryview itself does it. */
typedef struct {
    PyObject_HEAD
    PyObject *view;
    Py_buffer buffer;
    Py_ssize_t count;
} Words;

static PyTypeObject WordsType;

static void words_dealloc(Words *self)
{
    PyBuffer_Release(&self->buffer);
    Py_CLEAR(self->view);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static Py_ssize_t words_length(Words *self) { return self->count; }

/* The place of an element, -1 for what the memoryview is to answer: a slice, a negative or too large number. */
static Py_ssize_t place_of(Words *self, PyObject *key)
{
    uint64_t place;
    return number(key, PY_SSIZE_T_MAX, &place) && (Py_ssize_t)place < self->count ? (Py_ssize_t)place : -1;
}

static inline uint64_t look(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

static PyObject *words_get(Words *self, PyObject *key)
{
    Py_ssize_t place = place_of(self, key);
    if (place < 0)
        return PyObject_GetItem(self->view, key);
    switch (self->buffer.itemsize) {
    case 8:
        return PyLong_FromUnsignedLongLong(look((uint64_t *)self->buffer.buf + place));
    case 4:
        return PyLong_FromUnsignedLong(__atomic_load_n((uint32_t *)self->buffer.buf + place, __ATOMIC_ACQUIRE));
    default:
        return PyLong_FromLong(((uint8_t *)self->buffer.buf)[place]);
    }
}

static int words_set(Words *self, PyObject *key, PyObject *value)
{
    uint64_t word;
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "words cannot be deleted");
        return -1;
    }
    if (self->buffer.readonly)
        return PyObject_SetItem(self->view, key, value);
    Py_ssize_t place = place_of(self, key);
    if (place >= 0 && self->buffer.itemsize == 8 && number(value, WORD64, &word)) {
        store((uint64_t *)self->buffer.buf + place, word);
        return 0;
    }
    if (place >= 0 && self->buffer.itemsize == 4 && number(value, WORD32, &word)) {
        __atomic_store_n((uint32_t *)self->buffer.buf + place, (uint32_t)word, __ATOMIC_RELEASE);
        return 0;
    }
    if (place < 0 && self->buffer.itemsize == 1 && PySlice_Check(key) && PyBytes_CheckExact(value)) {
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0)
            return -1;
        if (step == 1 && 0 <= start && start <= stop && stop <= self->count && stop - start == PyBytes_GET_SIZE(value)) {
            memcpy((char *)self->buffer.buf + start, PyBytes_AS_STRING(value), stop - start);
            return 0;
        }
    }
    return PyObject_SetItem(self->view, key, value);
}

static PyMappingMethods words_mapping = {
    .mp_length = (lenfunc)words_length,
    .mp_subscript = (binaryfunc)words_get,
    .mp_ass_subscript = (objobjargproc)words_set,
};

static int words_buffer(Words *self, Py_buffer *buffer, int flags) { return PyObject_GetBuffer(self->view, buffer, flags); }

static PyObject *words_iter(Words *self) { return PyObject_GetIter(self->view); }

static PyBufferProcs words_as_buffer = {.bf_getbuffer = (getbufferproc)words_buffer};

static PyTypeObject WordsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "streamcore.leaves.Words",
    .tp_doc = "A memoryview of shared memory whose elements are stored and read whole.",
    .tp_basicsize = sizeof(Words),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = (destructor)words_dealloc,
    .tp_as_mapping = &words_mapping,
    .tp_as_buffer = &words_as_buffer,
    .tp_iter = (getiterfunc)words_iter,
};

/* words(view): of a memoryview that is contiguous and aligned; any other is given back as it is. */
static PyObject *leaf_words(PyObject *module, PyObject *view)
{
    (void)module;
    Py_buffer buffer;
    if (!PyMemoryView_Check(view))
        return PyErr_Format(PyExc_TypeError, "found %.80s, expected a memoryview", Py_TYPE(view)->tp_name);
    if (PyObject_GetBuffer(view, &buffer, PyBUF_FORMAT | PyBUF_ND) < 0) {
        PyErr_Clear(); /* not contiguous */
        return Py_NewRef(view);
    }
    const char *format = buffer.format == NULL ? "B" : buffer.format;
    bool known = (!strcmp(format, "Q") && buffer.itemsize == 8) || (!strcmp(format, "I") && buffer.itemsize == 4) || !strcmp(format, "B");
    if (!known || buffer.ndim != 1 || (uintptr_t)buffer.buf % buffer.itemsize) {
        PyBuffer_Release(&buffer);
        return Py_NewRef(view);
    }
    Words *self = PyObject_New(Words, &WordsType);
    if (self == NULL) {
        PyBuffer_Release(&buffer);
        return NULL;
    }
    self->view = Py_NewRef(view);
    self->buffer = buffer;
    self->count = buffer.len / buffer.itemsize;
    return (PyObject *)self;
}

/* -------------------------------------------------------------------------------------------------------------- a row of a ring's table */

static Words *words_of(PyObject *object, Py_ssize_t itemsize, bool writable)
{
    Words *words = (Words *)object;
    return Py_IS_TYPE(object, &WordsType) && words->buffer.itemsize == itemsize && !(writable && words->buffer.readonly) ? words : NULL;
}

/* put_row(room, table, metas, places, entry, sequence, pending, ref, parent, flags, meta): slot or -1. Fields are stored whole, in order. */
static PyObject *leaf_put_row(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    static const uint64_t most[11] = {WORD32, WORD32, WORD32, WORD32, WORD64, WORD64, WORD32, WORD32, WORD64, WORD32, WORD32};
    uint64_t entry, sequence, own, metas_at, meta_bytes, field[11] = {ROW_WRITING};
    Words *room, *table;
    if (count != 11 || (room = words_of(args[0], 1, true)) == NULL || (table = words_of(args[1], 8, true)) == NULL || args[2] != args[0] ||
        !PyTuple_CheckExact(args[3]) || PyTuple_GET_SIZE(args[3]) != 3 || !number(PyTuple_GET_ITEM(args[3], 0), WORD64, &own) ||
        !number(PyTuple_GET_ITEM(args[3], 1), PY_SSIZE_T_MAX, &metas_at) || !number(PyTuple_GET_ITEM(args[3], 2), WORD16, &meta_bytes) ||
        !number(args[4], WORD32, &entry) || !number(args[5], WORD64, &sequence) || ref_type == NULL || !Py_IS_TYPE(args[7], ref_type) ||
        !PyTuple_CheckExact(args[8]) || PyTuple_GET_SIZE(args[8]) != 3 || !of_32_bits(args[10]))
        return by_python(PUT_ROW, args, count);
    PyObject *objects[11] = {NULL, args[6]};
    for (int n = 0; n < 4; n++)
        objects[2 + n] = field_of(args[7], ref_place[n]);
    for (int n = 0; n < 3; n++)
        objects[6 + n] = PyTuple_GET_ITEM(args[8], n);
    objects[10] = args[9];
    for (int n = 1; n < 11; n++)
        if (n != 9 && (objects[n] == NULL || !number(objects[n], most[n], &field[n])))
            return by_python(PUT_ROW, args, count);
    uint64_t size = field[9] = (uint64_t)PyBytes_GET_SIZE(args[10]), end = (uint64_t)room->count, meta_at = metas_at + entry * meta_bytes;
    if ((entry + 1) * ENTRY_U64 > (uint64_t)table->count || RING_HEADER_BYTES + (entry + 1) * ENTRY_U64 * 8 > end || meta_at > end ||
        size > end - meta_at)
        return by_python(PUT_ROW, args, count);
    uint64_t *words = (uint64_t *)table->buffer.buf + entry * ENTRY_U64;
    store(words, sequence);
    char *row = (char *)room->buffer.buf + RING_HEADER_BYTES + entry * ENTRY_U64 * 8;
    for (int n = 0, place = 8; n < 11; n++) {
        if (most[n] == WORD64) {
            __atomic_store_n((uint64_t *)(row + place), field[n], __ATOMIC_RELEASE);
            place += 8;
        } else {
            __atomic_store_n((uint32_t *)(row + place), (uint32_t)field[n], __ATOMIC_RELEASE);
            place += 4;
        }
    }
    memcpy((char *)room->buffer.buf + meta_at, PyBytes_AS_STRING(args[10]), size);
    store(words + STATE_U64, field[1] << 32 | ROW_COMMITTED);
    return field[2] == own ? Py_NewRef(objects[3]) : PyLong_FromLong(-1);
}

/* clear_pending(table, entry, bit): which edges are left, or -1 */
static PyObject *leaf_clear_pending(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t entry, bit;
    Words *table;
    if (count != 3 || (table = words_of(args[0], 4, true)) == NULL || !number(args[1], WORD32, &entry) || !number(args[2], WORD32, &bit) ||
        (entry + 1) * ENTRY_U32 > (uint64_t)table->count)
        return by_python(CLEAR_PENDING, args, count);
    uint32_t *row = (uint32_t *)table->buffer.buf + entry * ENTRY_U32, pending = __atomic_load_n(row + PENDING_U32, __ATOMIC_ACQUIRE);
    if (!(pending & bit))
        return PyLong_FromLong(-1);
    pending &= ~(uint32_t)bit;
    __atomic_store_n(row + PENDING_U32, pending, __ATOMIC_RELEASE);
    if (!pending)
        __atomic_store_n(row + STATE_U32, ROW_FREE, __ATOMIC_RELEASE);
    return PyLong_FromUnsignedLong(pending);
}

/* vouched(table, entry_count, sequence_max, records), records as read_data gives them */
static PyObject *leaf_vouched(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t entries, most, sequence, entry, before = 0;
    Words *words;
    if (count != 4 || (words = words_of(args[0], 8, false)) == NULL || !number(args[1], WORD32, &entries) ||
        !number(args[2], WORD64, &most) || !PyList_CheckExact(args[3]) || entries * ENTRY_U64 > (uint64_t)words->count)
        return by_python(VOUCHED, args, count);
    const uint64_t *table = words->buffer.buf;
    for (Py_ssize_t n = 0; n < PyList_GET_SIZE(args[3]); n++, before = sequence) {
        PyObject *record = PyList_GET_ITEM(args[3], n);
        if (!PyTuple_CheckExact(record) || PyTuple_GET_SIZE(record) < 3 || !number(PyTuple_GET_ITEM(record, 0), WORD64, &sequence) ||
            !number(PyTuple_GET_ITEM(record, 2), WORD32, &entry))
            return by_python(VOUCHED, args, count);
        if (entry >= entries || look(&table[entry * ENTRY_U64]) != sequence || sequence > most ||
            (n && sequence <= before))
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

/* --------------------------------------------------------------------------------------------------- durations and spans of a status page */

enum { FIRST_BITS = 10, SUB_BITS = 4, BUCKETS = 465 }; /* SYNC: shm.histogram, as the next line */
enum { SUM_WORD = 0, LOW_WORD = 1, HIGH_WORD = 2, COUNTS_WORD = 3, BLOCK_WORDS = COUNTS_WORD + BUCKETS };

/* note(words, at, ns) */
static PyObject *leaf_note(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t at, ns, bucket = 0;
    Words *words;
    if (count != 3 || (words = words_of(args[0], 8, true)) == NULL || words->count < BLOCK_WORDS ||
        !number(args[1], (uint64_t)words->count - BLOCK_WORDS, &at) || !number(args[2], WORD64, &ns))
        return by_python(NOTE, args, count);
    if (ns >> FIRST_BITS) {
        int bits = 64 - __builtin_clzll(ns);
        bucket = 1 + ((uint64_t)(bits - FIRST_BITS - 1) << SUB_BITS) + ((ns >> (bits - 1 - SUB_BITS)) & ((1u << SUB_BITS) - 1));
        if (bucket >= BUCKETS)
            bucket = BUCKETS - 1;
    }
    uint64_t *block = (uint64_t *)words->buffer.buf + at, before = look(block + COUNTS_WORD + bucket), used = bucket + 1;
    if (!before) {
        if (!look(block + HIGH_WORD) || used < look(block + LOW_WORD))
            store(block + LOW_WORD, used);
        if (used > look(block + HIGH_WORD))
            store(block + HIGH_WORD, used);
    }
    store(block + COUNTS_WORD + bucket, before + 1);
    store(block + SUM_WORD, look(block + SUM_WORD) + ns);
    Py_RETURN_NONE;
}

/* put_span(words, at, number, *fields) */
static PyObject *leaf_put_span(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    enum { FIELDS_MAX = 16 };
    uint64_t at, stamp, fields[FIELDS_MAX];
    Words *words;
    Py_ssize_t given = count - 3;
    if (given < 0 || given > FIELDS_MAX || (words = words_of(args[0], 8, true)) == NULL || words->count <= given ||
        !number(args[1], (uint64_t)(words->count - given - 1), &at) || !number(args[2], WORD64 - 1, &stamp))
        return by_python(PUT_SPAN, args, count);
    for (Py_ssize_t n = 0; n < given; n++)
        if (!number(args[3 + n], WORD64, &fields[n]))
            return by_python(PUT_SPAN, args, count);
    uint64_t *span = (uint64_t *)words->buffer.buf + at;
    store(span, 0);
    for (Py_ssize_t n = 0; n < given; n++)
        store(span + 1 + n, fields[n]);
    store(span, stamp + 1);
    Py_RETURN_NONE;
}

/* ----------------------------------------------------------------------------------------------------------------------------- messages */

enum { DATA_TYPE = 1, RECEIPT_TYPE = 2, WAKE_TYPE = 4, WANT_FLAG = 1, OUTCOME_MAX = 5 };
enum { HEADER_SIZE = 16, RECORD_SIZE = 28, COMPLETION_SIZE = 16, CHECK_SIZE = 4 };
#define CHECKED 0x2144DF1Cu

static PyObject *crc32_of; /* zlib's, for what is long where the processor cannot fold */
static uint32_t crc_of_byte[256];
enum { CRC_SHORT = 256 }; /* bytes: calling zlib takes longer than they do */
static bool folds;        /* the processor multiplies polynomials */

static void make_crc_of_byte(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        crc_of_byte[byte] = crc;
    }
}

#if defined(__x86_64__)
/* The register of a CRC after the bytes up to `end`, a multiple of 16 and not none. 128 bits of remainder are carried over each 16 bytes, then
brought down to 32 (Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009). The constants
are powers of x modulo the polynomial, which the paper lists for this one. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t crc_folded(uint32_t crc, const unsigned char *at, const unsigned char *end)
{
    const __m128i over_128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0), over_64 = _mm_set_epi64x(0, 0x163cd6124);
    const __m128i reduce = _mm_set_epi64x(0x1f7011641, 0x1db710641), low_32 = _mm_set_epi32(0, -1, 0, -1);
    __m128i sum = _mm_xor_si128(_mm_loadu_si128((const __m128i *)at), _mm_cvtsi32_si128((int)crc));
    while ((at += 16) < end) {
        __m128i low = _mm_clmulepi64_si128(sum, over_128, 0x00), high = _mm_clmulepi64_si128(sum, over_128, 0x11);
        sum = _mm_xor_si128(_mm_xor_si128(low, high), _mm_loadu_si128((const __m128i *)at));
    }
    sum = _mm_xor_si128(_mm_srli_si128(sum, 8), _mm_clmulepi64_si128(sum, over_128, 0x10));
    sum = _mm_xor_si128(_mm_srli_si128(sum, 4), _mm_clmulepi64_si128(_mm_and_si128(sum, low_32), over_64, 0x00));
    __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(sum, low_32), reduce, 0x10);
    sum = _mm_xor_si128(sum, _mm_clmulepi64_si128(_mm_and_si128(quotient, low_32), reduce, 0x00));
    return (uint32_t)_mm_extract_epi32(sum, 1);
}

static bool can_fold(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}
#else
static uint32_t crc_folded(uint32_t crc, const unsigned char *at, const unsigned char *end)
{
    (void)at;
    (void)end;
    return crc;
}

static bool can_fold(void) { return false; }
#endif

static bool checksum(PyObject *raw, PyObject *key, uint32_t *found)
{
    uint64_t begun;
    Py_ssize_t size = PyBytes_GET_SIZE(raw);
    if ((folds || size <= CRC_SHORT) && number(key, WORD32, &begun)) {
        const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(raw), *end = at + size, *whole = at + (size & ~15);
        uint32_t crc = ~(uint32_t)begun;
        if (folds && at < whole) {
            crc = crc_folded(crc, at, whole);
            at = whole;
        }
        while (at < end)
            crc = crc >> 8 ^ crc_of_byte[(crc ^ *at++) & BYTE];
        *found = ~crc;
        return true;
    }
    PyObject *args[2] = {raw, key};
    PyObject *sum = PyObject_Vectorcall(crc32_of, args, 2, NULL);
    if (sum == NULL)
        return false;
    *found = (uint32_t)PyLong_AsUnsignedLongMask(sum);
    Py_DECREF(sum);
    return true;
}

static PyObject *leaf_sealed(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint32_t sum;
    if (count != 2 || !PyBytes_CheckExact(args[0]))
        return by_python(SEALED, args, count);
    if (!checksum(args[0], args[1], &sum))
        return NULL;
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]);
    PyObject *found = PyBytes_FromStringAndSize(NULL, size + CHECK_SIZE);
    if (found == NULL)
        return NULL;
    memcpy(PyBytes_AS_STRING(found), PyBytes_AS_STRING(args[0]), size);
    put32(PyBytes_AS_STRING(found) + size, sum);
    return found;
}

static PyObject *leaf_unsealed(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint32_t sum;
    if (count != 2 || !PyBytes_CheckExact(args[0]) || PyBytes_GET_SIZE(args[0]) < CHECK_SIZE)
        return by_python(UNSEALED, args, count);
    if (!checksum(args[0], args[1], &sum))
        return NULL;
    if (sum != CHECKED)
        return by_python(UNSEALED, args, count);
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(args[0]), PyBytes_GET_SIZE(args[0]) - CHECK_SIZE);
}

enum { RECEIVE_MAX = 16, EVENTS_MAX = 16, READ_BYTES = 65537, LINGER_MAX_NS = 1000000000 }; /* SYNC: wire.sockets */

static bool append(PyObject *list, PyObject *item)
{
    bool done = item != NULL && PyList_Append(list, item) == 0;
    Py_XDECREF(item);
    return done;
}

/* What lies in a connection; of these buffers only the pages that messages have reached are there. The GIL is kept: nothing here waits. */
static bool receive_from(int fd, PyObject *found, PyObject *odd)
{
    static char buffers[RECEIVE_MAX][READ_BYTES];
    static struct iovec places[RECEIVE_MAX];
    static struct mmsghdr messages[RECEIVE_MAX];
    if (places[0].iov_base == NULL)
        for (int n = 0; n < RECEIVE_MAX; n++) {
            places[n] = (struct iovec){buffers[n], READ_BYTES};
            messages[n].msg_hdr.msg_iov = &places[n];
            messages[n].msg_hdr.msg_iovlen = 1;
        }
    int count = recvmmsg(fd, messages, RECEIVE_MAX, MSG_DONTWAIT, NULL);
    bool ended = count < 0 && errno != EAGAIN;
    for (int n = 0; n < count && !ended; n++) {
        ended = messages[n].msg_len == 0;
        if (!ended && !append(found, PyBytes_FromStringAndSize(buffers[n], messages[n].msg_len)))
            return false;
    }
    return !ended || append(odd, PyLong_FromLong(fd));
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* About a microsecond in which another thread of the same core has it to itself. */
static void rest(void)
{
    for (int n = 0; n < 32; n++) {
#if defined(__x86_64__)
        _mm_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb" ::: "memory");
#endif
    }
}

static int await_events(int fd, struct epoll_event *events, int timeout_ms, uint64_t linger_ns)
{
    int ready = 0;
    if (linger_ns) {
        uint64_t until_ns = now_ns() + linger_ns;
        while ((ready = epoll_wait(fd, events, EVENTS_MAX, 0)) == 0 && now_ns() < until_ns)
            rest();
    }
    return ready ? ready : epoll_wait(fd, events, EVENTS_MAX, timeout_ms);
}

static PyObject *leaf_gather(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    struct epoll_event events[EVENTS_MAX];
    uint64_t fd, linger_ns;
    bool plain = count == 4 && number(args[1], INT_MAX, &fd) && PyLong_CheckExact(args[2]) && number(args[3], LINGER_MAX_NS, &linger_ns);
    int ready, large = 0;
    long timeout_ms = plain ? PyLong_AsLongAndOverflow(args[2], &large) : LONG_MAX;
    if (large || timeout_ms > INT_MAX || timeout_ms < INT_MIN)
        return by_python(GATHER, args, count);
    if (timeout_ms == 0)
        ready = epoll_wait((int)fd, events, EVENTS_MAX, 0);
    else {
        Py_BEGIN_ALLOW_THREADS
        ready = await_events((int)fd, events, (int)timeout_ms, linger_ns);
        Py_END_ALLOW_THREADS
    }
    if (ready < 0 && errno != EINTR)
        return by_python(GATHER, args, count);
    if (ready < 0 && PyErr_CheckSignals() < 0)
        return NULL;
    PyObject *found = PyList_New(0), *odd = PyList_New(0);
    bool done = found != NULL && odd != NULL;
    for (int n = 0; done && n < ready; n++)
        done = receive_from(events[n].data.fd, found, odd);
    PyObject *both = done ? PyTuple_Pack(2, found, odd) : NULL;
    Py_XDECREF(found);
    Py_XDECREF(odd);
    return both;
}

static PyObject *leaf_transmit(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t fd;
    uint32_t sum;
    char seal[CHECK_SIZE];
    if (count != 4 || !number(args[1], INT_MAX, &fd) || !PyBytes_CheckExact(args[2]))
        return by_python(TRANSMIT, args, count);
    if (!checksum(args[2], args[3], &sum))
        return NULL;
    put32(seal, sum);
    struct iovec parts[2] = {{PyBytes_AS_STRING(args[2]), (size_t)PyBytes_GET_SIZE(args[2])}, {seal, CHECK_SIZE}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (sendmsg((int)fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        Py_RETURN_TRUE;
    if (errno == EAGAIN)
        Py_RETURN_FALSE;
    return by_python(TRANSMIT, args, count);
}

static void put_header(char *at, int type, uint64_t flags, uint64_t records, uint64_t edge, uint64_t incarnation)
{
    at[0] = (char)type;
    at[1] = (char)flags;
    put16(at + 2, records);
    put32(at + 4, edge);
    put32(at + 8, incarnation);
    put32(at + 12, 0);
}

static char *put_record(char *at, uint64_t sequence, uint64_t sent_ns, uint64_t entry, uint64_t flags, PyObject *meta)
{
    put64(at, sequence);
    put64(at + 8, sent_ns);
    put32(at + 16, entry);
    put32(at + 20, PyBytes_GET_SIZE(meta));
    put32(at + 24, flags);
    memcpy(at + RECORD_SIZE, PyBytes_AS_STRING(meta), PyBytes_GET_SIZE(meta));
    return at + RECORD_SIZE + PyBytes_GET_SIZE(meta);
}

/* data_one(edge, incarnation, want, sequence, sent_ns, entry, flags, meta) */
static PyObject *leaf_data_one(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t edge, incarnation, want, sequence, sent_ns, entry, flags;
    if (count != 8 || !number(args[0], WORD32, &edge) || !number(args[1], WORD32, &incarnation) || !number(args[2], BYTE, &want) ||
        !number(args[3], WORD64, &sequence) || !number(args[4], WORD64, &sent_ns) || !number(args[5], WORD32, &entry) ||
        !number(args[6], WORD32, &flags) || !of_32_bits(args[7]))
        return by_python(DATA_ONE, args, count);
    PyObject *found = PyBytes_FromStringAndSize(NULL, HEADER_SIZE + RECORD_SIZE + PyBytes_GET_SIZE(args[7]));
    if (found == NULL)
        return NULL;
    put_header(PyBytes_AS_STRING(found), DATA_TYPE, want, 1, edge, incarnation);
    put_record(PyBytes_AS_STRING(found) + HEADER_SIZE, sequence, sent_ns, entry, flags, args[7]);
    return found;
}

/* data_many(edge, incarnation, want, records), each (sequence, sent_ns, entry, flags, meta) */
static PyObject *leaf_data_many(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t edge, incarnation, want, field[4];
    static const uint64_t most[4] = {WORD64, WORD64, WORD32, WORD32};
    if (count != 4 || !number(args[0], WORD32, &edge) || !number(args[1], WORD32, &incarnation) || !number(args[2], BYTE, &want) ||
        !PyList_CheckExact(args[3]) || (uint64_t)PyList_GET_SIZE(args[3]) > WORD16)
        return by_python(DATA_MANY, args, count);
    Py_ssize_t records = PyList_GET_SIZE(args[3]), size = HEADER_SIZE;
    for (Py_ssize_t n = 0; n < records; n++) {
        PyObject *record = PyList_GET_ITEM(args[3], n);
        if (!PyTuple_CheckExact(record) || PyTuple_GET_SIZE(record) != 5 || !of_32_bits(PyTuple_GET_ITEM(record, 4)))
            return by_python(DATA_MANY, args, count);
        for (int k = 0; k < 4; k++)
            if (!number(PyTuple_GET_ITEM(record, k), most[k], &field[k]))
                return by_python(DATA_MANY, args, count);
        size += RECORD_SIZE + PyBytes_GET_SIZE(PyTuple_GET_ITEM(record, 4));
    }
    PyObject *found = PyBytes_FromStringAndSize(NULL, size);
    if (found == NULL)
        return NULL;
    char *at = PyBytes_AS_STRING(found) + HEADER_SIZE;
    put_header(PyBytes_AS_STRING(found), DATA_TYPE, want, records, edge, incarnation);
    for (Py_ssize_t n = 0; n < records; n++) {
        PyObject *record = PyList_GET_ITEM(args[3], n);
        for (int k = 0; k < 4; k++)
            number(PyTuple_GET_ITEM(record, k), most[k], &field[k]);
        at = put_record(at, field[0], field[1], field[2], field[3], PyTuple_GET_ITEM(record, 4));
    }
    return found;
}

/* receipt(edge, incarnation, taken_upto, completions), each (sequence, entry, outcome) */
static PyObject *leaf_receipt(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t edge, incarnation, upto, sequence, entry, outcome;
    if (count != 4 || !number(args[0], WORD32, &edge) || !number(args[1], WORD32, &incarnation) || !number(args[2], WORD64, &upto) ||
        !PyList_CheckExact(args[3]) || (uint64_t)PyList_GET_SIZE(args[3]) > WORD16)
        return by_python(RECEIPT, args, count);
    Py_ssize_t completions = PyList_GET_SIZE(args[3]);
    PyObject *found = PyBytes_FromStringAndSize(NULL, HEADER_SIZE + 8 + completions * COMPLETION_SIZE);
    if (found == NULL)
        return NULL;
    char *at = PyBytes_AS_STRING(found) + HEADER_SIZE;
    put_header(PyBytes_AS_STRING(found), RECEIPT_TYPE, 0, completions, edge, incarnation);
    put64(at, upto);
    at += 8;
    for (Py_ssize_t n = 0; n < completions; n++, at += COMPLETION_SIZE) {
        PyObject *one = PyList_GET_ITEM(args[3], n);
        if (!PyTuple_CheckExact(one) || PyTuple_GET_SIZE(one) != 3 || !number(PyTuple_GET_ITEM(one, 0), WORD64, &sequence) ||
            !number(PyTuple_GET_ITEM(one, 1), WORD32, &entry) || !number(PyTuple_GET_ITEM(one, 2), WORD32, &outcome)) {
            Py_DECREF(found);
            return by_python(RECEIPT, args, count);
        }
        put64(at, sequence);
        put32(at + 8, entry);
        put32(at + 12, outcome);
    }
    return found;
}

static PyTypeObject *header_type; /* messages.Header, a NamedTuple of five numbers */

static PyObject *leaf_read_header(PyObject *module, PyObject *raw)
{
    (void)module;
    if (!PyBytes_CheckExact(raw) || PyBytes_GET_SIZE(raw) < HEADER_SIZE || header_type == NULL)
        return by_python(READ_HEADER, &raw, 1);
    const char *at = PyBytes_AS_STRING(raw);
    uint8_t type = (uint8_t)at[0], flags = (uint8_t)at[1];
    if (type < DATA_TYPE || type > WAKE_TYPE || flags > WANT_FLAG || get32(at + 12))
        return by_python(READ_HEADER, &raw, 1);
    PyObject *found = header_type->tp_alloc(header_type, 5);
    if (found == NULL)
        return NULL;
    const uint64_t field[5] = {type, flags, get16(at + 2), get32(at + 4), get32(at + 8)};
    for (int n = 0; n < 5; n++) {
        PyObject *value = PyLong_FromUnsignedLongLong(field[n]);
        if (value == NULL) {
            Py_DECREF(found);
            return NULL;
        }
        PyTuple_SET_ITEM(found, n, value);
    }
    return found;
}

/* A tuple that takes over its items; NULL, all of them let go of, if one is NULL. */
static PyObject *tuple_of(Py_ssize_t size, PyObject **items)
{
    PyObject *tuple = PyTuple_New(size);
    for (Py_ssize_t n = 0; n < size; n++) {
        if (items[n] == NULL && tuple != NULL)
            Py_CLEAR(tuple);
        if (tuple == NULL)
            for (; n < size; n++)
                Py_XDECREF(items[n]);
        else
            PyTuple_SET_ITEM(tuple, n, items[n]);
    }
    return tuple;
}

/* read_data(raw, count): a list of (sequence, sent_ns, entry, flags, meta) */
static PyObject *leaf_read_data(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t records;
    if (count != 2 || !PyBytes_CheckExact(args[0]) || !number(args[1], WORD16, &records))
        return by_python(READ_DATA, args, count);
    const char *begin = PyBytes_AS_STRING(args[0]), *end = begin + PyBytes_GET_SIZE(args[0]), *at = begin + HEADER_SIZE;
    if (end < at || (uint64_t)(end - at) < records * RECORD_SIZE)
        return by_python(READ_DATA, args, count);
    PyObject *found = PyList_New((Py_ssize_t)records);
    if (found == NULL)
        return NULL;
    for (Py_ssize_t n = 0; n < (Py_ssize_t)records; n++) {
        if (end - at < RECORD_SIZE || (uint64_t)(end - at - RECORD_SIZE) < get32(at + 20)) {
            Py_DECREF(found);
            return by_python(READ_DATA, args, count);
        }
        PyObject *items[5] = {
            PyLong_FromUnsignedLongLong(get64(at)),
            PyLong_FromUnsignedLongLong(get64(at + 8)),
            PyLong_FromUnsignedLongLong(get32(at + 16)),
            PyLong_FromUnsignedLongLong(get32(at + 24)),
            PyBytes_FromStringAndSize(at + RECORD_SIZE, (Py_ssize_t)get32(at + 20)),
        };
        PyObject *record = tuple_of(5, items);
        if (record == NULL) {
            Py_DECREF(found);
            return NULL;
        }
        PyList_SET_ITEM(found, n, record);
        at += RECORD_SIZE + get32(at + 20);
    }
    if (at != end) {
        Py_DECREF(found);
        return by_python(READ_DATA, args, count);
    }
    return found;
}

/* read_receipt(raw, count): (taken_upto, list of (sequence, entry, outcome)) */
static PyObject *leaf_read_receipt(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t completions;
    if (count != 2 || !PyBytes_CheckExact(args[0]) || !number(args[1], WORD16, &completions) ||
        (uint64_t)PyBytes_GET_SIZE(args[0]) != HEADER_SIZE + 8 + completions * COMPLETION_SIZE)
        return by_python(READ_RECEIPT, args, count);
    const char *at = PyBytes_AS_STRING(args[0]) + HEADER_SIZE + 8;
    PyObject *found = PyList_New((Py_ssize_t)completions);
    if (found == NULL)
        return NULL;
    for (Py_ssize_t n = 0; n < (Py_ssize_t)completions; n++, at += COMPLETION_SIZE) {
        if (get32(at + 12) > OUTCOME_MAX) {
            Py_DECREF(found);
            return by_python(READ_RECEIPT, args, count);
        }
        PyObject *items[3] = {
            PyLong_FromUnsignedLongLong(get64(at)),
            PyLong_FromUnsignedLongLong(get32(at + 8)),
            PyLong_FromUnsignedLongLong(get32(at + 12)),
        };
        PyObject *one = tuple_of(3, items);
        if (one == NULL) {
            Py_DECREF(found);
            return NULL;
        }
        PyList_SET_ITEM(found, n, one);
    }
    PyObject *both[2] = {PyLong_FromUnsignedLongLong(get64(PyBytes_AS_STRING(args[0]) + HEADER_SIZE)), found};
    return tuple_of(2, both);
}

/* --------------------------------------------------------------------------------------------- a packet's metadata, to msgpack and back */


static char *put_uint(char *at, uint64_t value)
{
    if (value < 0x80) {
        *at++ = (char)value;
        return at;
    }
    int bytes = value <= BYTE ? 1 : value <= WORD16 ? 2 : value <= WORD32 ? 4 : 8;
    *at++ = (char)(0xcc + (bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3));
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        *at++ = (char)(value >> shift);
    return at;
}

/* `short_mark`: of a length below `short_max`, in the same byte, if it is not 0; `mark`: of a length of one byte. */
static char *put_length(char *at, uint64_t length, int short_mark, uint64_t short_max, int mark)
{
    if (short_mark && length < short_max) {
        *at++ = (char)(short_mark | (int)length);
        return at;
    }
    int bytes = length <= BYTE ? 1 : length <= WORD16 ? 2 : 4;
    *at++ = (char)(mark + (bytes == 1 ? 0 : bytes == 2 ? 1 : 2));
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        *at++ = (char)(length >> shift);
    return at;
}

static char *put_bytes(char *at, const char *bytes, Py_ssize_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

typedef struct {
    const char *text;
    Py_ssize_t size;
} Text;

static bool text_of(PyObject *object, Py_ssize_t chars_max, Text *found)
{
    if (object == NULL || !PyUnicode_CheckExact(object) || PyUnicode_GET_LENGTH(object) > chars_max)
        return false;
    found->text = PyUnicode_AsUTF8AndSize(object, &found->size);
    if (found->text == NULL)
        PyErr_Clear(); /* half a surrogate pair */
    return found->text != NULL;
}

static char *put_text(char *at, Text text) { return put_bytes(put_length(at, text.size, 0xa0, 32, 0xd9), text.text, text.size); }

/* A tuple of few plain numbers, as a shape is. */
static bool sizes_of(PyObject *object, uint64_t *sizes, Py_ssize_t *count)
{
    if (object == NULL || !PyTuple_CheckExact(object) || PyTuple_GET_SIZE(object) > NDIM_MAX)
        return false;
    *count = PyTuple_GET_SIZE(object);
    for (Py_ssize_t n = 0; n < *count; n++)
        if (!number(PyTuple_GET_ITEM(object, n), WORD64, &sizes[n]))
            return false;
    return true;
}

static char *put_sizes(char *at, const uint64_t *sizes, Py_ssize_t count)
{
    *at++ = (char)(0x90 | (int)count);
    for (Py_ssize_t n = 0; n < count; n++)
        at = put_uint(at, sizes[n]);
    return at;
}

#define REF_ROOM (1 + 4 * 9 + 5 + 4 * KIND_CHARS_MAX + 2 * (1 + 9 * NDIM_MAX))

/* NULL if it is not plain. */
static char *put_ref(char *at, PyObject *ref)
{
    uint64_t field[4], shape[NDIM_MAX], strides[NDIM_MAX];
    Py_ssize_t ndim, steps;
    Text dtype;
    for (int n = 0; n < 4; n++) {
        PyObject *value = field_of(ref, ref_place[n]);
        if (value == NULL || !number(value, WORD64, &field[n]))
            return NULL;
    }
    if (!text_of(field_of(ref, ref_place[R_DTYPE]), KIND_CHARS_MAX, &dtype) || !sizes_of(field_of(ref, ref_place[R_SHAPE]), shape, &ndim) ||
        !sizes_of(field_of(ref, ref_place[R_STRIDES]), strides, &steps))
        return NULL;
    *at++ = (char)(0x90 | REF_FIELDS);
    for (int n = 0; n < 4; n++)
        at = put_uint(at, field[n]);
    return put_sizes(put_sizes(put_text(at, dtype), shape, ndim), strides, steps);
}

/* msgspec's encoding of what is not plain here; NULL with no error set if it cannot be had. */
static PyObject *encoded(PyObject *value)
{
    PyObject *raw = PyObject_Vectorcall(encode_any, &value, 1, NULL);
    if (raw != NULL && PyBytes_CheckExact(raw))
        return raw;
    Py_XDECREF(raw);
    PyErr_Clear();
    return NULL;
}

static bool has_text_as_keys(PyObject *mapping)
{
    Py_ssize_t at = 0;
    PyObject *key, *value;
    if (!PyDict_CheckExact(mapping))
        return false;
    while (PyDict_Next(mapping, &at, &key, &value))
        if (!PyUnicode_CheckExact(key))
            return false;
    return true;
}

static bool is_trace(PyObject *trace)
{
    uint64_t ns;
    if (!PyList_CheckExact(trace))
        return false;
    for (Py_ssize_t n = 0; n < PyList_GET_SIZE(trace); n++) {
        PyObject *hop = PyList_GET_ITEM(trace, n);
        if (!PyTuple_CheckExact(hop) || PyTuple_GET_SIZE(hop) != 2 || !PyUnicode_CheckExact(PyTuple_GET_ITEM(hop, 0)) ||
            !number(PyTuple_GET_ITEM(hop, 1), WORD64, &ns))
            return false;
    }
    return true;
}

/* encode_packet(packet, id16, kind, ref, value, position, trace): Meta as msgpack. See node/packing.py. */
static PyObject *leaf_encode_packet(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 7 || packet_type == NULL || ref_type == NULL || !PyObject_TypeCheck(args[0], packet_type))
        return by_python(ENCODE_PACKET, args, count);
    PyObject *packet = args[0], *id16 = args[1], *kind = args[2], *ref = args[3], *value = args[4], *position = args[5], *trace = args[6];
    PyObject *own = field_of(packet, packet_place[P_META]), *wall = field_of(packet, packet_place[P_WALL_NS]);
    PyObject *capture = field_of(packet, packet_place[P_CAPTURE_NS]);
    PyObject *part[3] = {NULL, NULL, NULL}, *found = NULL; /* of value, meta and trace, if msgspec is to encode them */
    PyObject *source_id = field_of(packet, packet_place[P_SOURCE_ID]);
    uint64_t wall_ns, capture_ns, place = 0;
    Text kind_text, source_text;
    char stack[2048], *room = stack;

    if (PyUnicode_CheckExact(kind) && PyUnicode_GET_LENGTH(kind) == 0)
        kind = field_of(packet, packet_place[P_KIND]);
    if (!PyBytes_CheckExact(id16) || PyBytes_GET_SIZE(id16) != ID_BYTES || !text_of(kind, KIND_CHARS_MAX, &kind_text) ||
        !text_of(source_id, SOURCE_ID_CHARS_MAX, &source_text) || wall == NULL ||
        !number(wall, WORD64, &wall_ns) || capture == NULL || !number(capture, WORD64, &capture_ns) || own == NULL ||
        (own != Py_None && !has_text_as_keys(own)) || (position != Py_None && !number(position, WORD64, &place)) ||
        (trace != Py_None && !is_trace(trace)) || (ref != Py_None && !Py_IS_TYPE(ref, ref_type)))
        return by_python(ENCODE_PACKET, args, count);

    Py_ssize_t size = 1 + 2 + ID_BYTES + 5 + kind_text.size + 5 + source_text.size + 9 + 9 + REF_ROOM + 5 + 1 + 9 + 1;
    PyObject *const by_msgspec[3] = {value == Py_None || PyBytes_CheckExact(value) ? NULL : value, own == Py_None ? NULL : own,
                                     trace == Py_None ? NULL : trace};
    bool plain = true;
    PyObject *const held[3] = {Py_NewRef(kind), Py_NewRef(source_id), Py_NewRef(own)}; /* what msgspec calls may change the packet */
    for (int n = 0; n < 3 && plain; n++)
        if (by_msgspec[n] != NULL) {
            part[n] = encoded(by_msgspec[n]);
            plain = part[n] != NULL;
            size += plain ? PyBytes_GET_SIZE(part[n]) : 0;
        }
    if (PyBytes_CheckExact(value))
        size += PyBytes_GET_SIZE(value);
    if (plain && size > (Py_ssize_t)sizeof stack)
        room = PyMem_Malloc(size);
    if (plain && room != NULL && (uint64_t)size <= WORD32) {
        char *at = room;
        *at++ = (char)(0x90 | META_FIELDS);
        at = put_bytes(put_length(at, ID_BYTES, 0, 0, 0xc4), PyBytes_AS_STRING(id16), ID_BYTES);
        at = put_text(put_text(at, kind_text), source_text);
        at = put_uint(put_uint(at, wall_ns), capture_ns);
        if (ref == Py_None)
            *at++ = (char)0xc0;
        else
            at = put_ref(at, ref);
        if (at != NULL) {
            if (part[0] != NULL)
                at = put_bytes(at, PyBytes_AS_STRING(part[0]), PyBytes_GET_SIZE(part[0]));
            else if (value == Py_None)
                *at++ = (char)0xc0;
            else
                at = put_bytes(put_length(at, PyBytes_GET_SIZE(value), 0, 0, 0xc4), PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
            if (part[1] != NULL)
                at = put_bytes(at, PyBytes_AS_STRING(part[1]), PyBytes_GET_SIZE(part[1]));
            else
                *at++ = (char)0xc0;
            if (position != Py_None)
                at = put_uint(at, place);
            else
                *at++ = (char)0xc0;
            if (part[2] != NULL)
                at = put_bytes(at, PyBytes_AS_STRING(part[2]), PyBytes_GET_SIZE(part[2]));
            else
                *at++ = (char)0xc0;
            found = PyBytes_FromStringAndSize(room, at - room);
            if (found == NULL)
                PyErr_Clear(); /* out of memory: Python says so */
        }
    }
    if (room != stack)
        PyMem_Free(room);
    for (int n = 0; n < 3; n++) {
        Py_XDECREF(part[n]);
        Py_DECREF(held[n]);
    }
    return found != NULL ? found : by_python(ENCODE_PACKET, args, count);
}

/* fields_of(packet): payload, parent, position, id16, trace, redelivered */
static PyObject *leaf_fields_of(PyObject *module, PyObject *packet)
{
    (void)module;
    if (packet_type == NULL || !PyObject_TypeCheck(packet, packet_type))
        return by_python(FIELDS_OF, &packet, 1);
    PyObject *fields = PyTuple_New(P_REDELIVERED + 1);
    for (int n = 0; fields != NULL && n <= P_REDELIVERED; n++) {
        PyObject *value = field_of(packet, packet_place[n]);
        if (value == NULL) {
            Py_DECREF(fields);
            return by_python(FIELDS_OF, &packet, 1);
        }
        PyTuple_SET_ITEM(fields, n, Py_NewRef(value));
    }
    return fields;
}

/* What make_ids gives: a prefix and a number, packed together. */
typedef struct {
    PyObject_HEAD
    char prefix[8];
    uint64_t count;
} Ids;

static PyTypeObject IdsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "streamcore.leaves.Ids",
    .tp_basicsize = sizeof(Ids),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = (destructor)PyObject_Free,
};

static Ids *current_ids; /* behind what make_ids gave last, which is what packet.next_id16 is */

static PyObject *ids_next(Ids *self, PyObject *nothing)
{
    (void)nothing;
    PyObject *id16 = PyBytes_FromStringAndSize(self->prefix, ID_BYTES);
    if (id16 != NULL)
        put64(PyBytes_AS_STRING(id16) + 8, self->count++);
    return id16;
}

static PyMethodDef ids_method = {"next_id16", (PyCFunction)ids_next, METH_NOARGS, "next_id16(): 16 bytes that no other packet has"};

static PyObject *leaf_make_ids(PyObject *module, PyObject *prefix)
{
    (void)module;
    if (!PyBytes_CheckExact(prefix) || PyBytes_GET_SIZE(prefix) != 8)
        return by_python(MAKE_IDS, &prefix, 1);
    Ids *ids = PyObject_New(Ids, &IdsType);
    if (ids == NULL)
        return NULL;
    memcpy(ids->prefix, PyBytes_AS_STRING(prefix), 8);
    ids->count = 0;
    PyObject *found = PyCFunction_New(&ids_method, (PyObject *)ids);
    Py_XSETREF(current_ids, ids);
    return found;
}

static PyObject *clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return PyLong_FromLongLong((long long)now.tv_sec * 1000000000 + now.tv_nsec);
}

/* new_packet(cls, *, kind, source_id, payload, meta, position, port, wall_ns, capture_ns): StreamPacket.new */
static PyObject *leaf_new_packet(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    (void)module;
    static const char *const names[] = {"kind", "source_id", "payload", "meta", "position", "port", "wall_ns", "capture_ns"};
    enum { KIND, SOURCE_ID, PAYLOAD, META, POSITION, PORT, WALL_NS, CAPTURE_NS, NAMES };
    static PyObject *interned[NAMES], *empty, *minus_one;
    PyObject *given[NAMES] = {NULL};

    if (empty == NULL) {
        for (int n = 0; n < NAMES; n++)
            if ((interned[n] = PyUnicode_InternFromString(names[n])) == NULL)
                return NULL;
        if ((minus_one = PyLong_FromLong(-1)) == NULL || (empty = PyUnicode_InternFromString("")) == NULL)
            return NULL;
    }
    bool plain = count == 1 && args[0] == (PyObject *)packet_type && keywords != NULL && current_ids != NULL;
    for (Py_ssize_t k = 0; plain && k < PyTuple_GET_SIZE(keywords); k++) {
        int n = 0;
        while (n < NAMES && PyTuple_GET_ITEM(keywords, k) != interned[n])
            n++;
        plain = n < NAMES;
        if (plain)
            given[n] = args[count + k];
    }
    if (!plain || given[KIND] == NULL || given[SOURCE_ID] == NULL)
        return by_python_with(NEW_PACKET, args, count, keywords);
    for (int n = PAYLOAD; n < NAMES; n++)
        if (given[n] == NULL)
            given[n] = n == PORT ? empty : Py_None;
    PyObject *id16 = ids_next(current_ids, NULL), *packet = NULL;
    PyObject *wall_ns = given[WALL_NS] == Py_None ? clock_ns(CLOCK_REALTIME) : Py_NewRef(given[WALL_NS]);
    PyObject *capture_ns = given[CAPTURE_NS] == Py_None ? clock_ns(CLOCK_MONOTONIC) : Py_NewRef(given[CAPTURE_NS]);
    if (id16 != NULL && wall_ns != NULL && capture_ns != NULL) {
        PyObject *const fields[] = {given[KIND], given[SOURCE_ID], given[PAYLOAD], given[META], id16, wall_ns, capture_ns, given[POSITION],
                                    Py_False, minus_one, given[PORT], empty, Py_None, Py_None, Py_None};
        packet = PyObject_Vectorcall((PyObject *)packet_type, fields, sizeof fields / sizeof fields[0], NULL);
    }
    Py_XDECREF(id16);
    Py_XDECREF(wall_ns);
    Py_XDECREF(capture_ns);
    return packet;
}

/* What is being read: `at` is NULL once it was not plain. */
typedef struct {
    const uint8_t *at, *end;
} Reading;

static uint64_t take_big_endian(Reading *reading, int bytes)
{
    uint64_t value = 0;
    if (reading->at == NULL || reading->end - reading->at < bytes) {
        reading->at = NULL;
        return 0;
    }
    while (bytes--)
        value = value << 8 | *reading->at++;
    return value;
}

static uint64_t take_uint(Reading *reading)
{
    uint64_t mark = take_big_endian(reading, 1);
    if (mark < 0x80)
        return mark;
    if (mark >= 0xcc && mark <= 0xcf)
        return take_big_endian(reading, 1 << (mark - 0xcc));
    reading->at = NULL;
    return 0;
}

static bool take_nil(Reading *reading)
{
    if (reading->at == NULL || reading->at == reading->end || *reading->at != 0xc0)
        return false;
    reading->at++;
    return true;
}

/* The bytes of the next text or, with `mark` 0xc4, of the next bytes: where they begin, NULL if it is neither. */
static const char *take_span(Reading *reading, int mark, Py_ssize_t *size)
{
    uint64_t first = take_big_endian(reading, 1), length = 0;
    if (mark == 0xd9 && (first & 0xe0) == 0xa0)
        length = first & 0x1f;
    else if (first >= (uint64_t)mark && first < (uint64_t)mark + 3)
        length = take_big_endian(reading, 1 << (first - mark));
    else
        reading->at = NULL;
    if (reading->at == NULL || (uint64_t)(reading->end - reading->at) < length) {
        reading->at = NULL;
        return NULL;
    }
    const char *begin = (const char *)reading->at;
    reading->at += length;
    *size = (Py_ssize_t)length;
    return begin;
}

/* A text, new reference. `kept`: the text read here last, which is what comes on most of the time. NULL, no error set, if not plain. */
static PyObject *take_text(Reading *reading, Py_ssize_t chars_max, PyObject **kept)
{
    Py_ssize_t size, kept_size;
    const char *begin = take_span(reading, 0xd9, &size), *kept_text;
    if (begin == NULL)
        return NULL;
    if (*kept != NULL && (kept_text = PyUnicode_AsUTF8AndSize(*kept, &kept_size)) != NULL && kept_size == size &&
        !memcmp(kept_text, begin, size))
        return Py_NewRef(*kept);
    PyObject *text = PyUnicode_DecodeUTF8(begin, size, NULL);
    if (text == NULL || PyUnicode_GET_LENGTH(text) > chars_max) {
        PyErr_Clear();
        Py_XDECREF(text);
        reading->at = NULL;
        return NULL;
    }
    Py_XSETREF(*kept, Py_NewRef(text));
    return text;
}

static PyObject *take_bytes(Reading *reading)
{
    Py_ssize_t size;
    const char *begin = take_span(reading, 0xc4, &size);
    return begin == NULL ? NULL : PyBytes_FromStringAndSize(begin, size);
}

/* Step over one value, whatever it holds; each value that is counted takes a byte at least, so the end comes. */
static void skip(Reading *reading)
{
    static const int size_of[32] = {0, -1, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 16, 1, 2, 4, 2, 4, 2, 4};
    for (uint64_t left = 1; left && reading->at != NULL; left--) {
        uint64_t mark = take_big_endian(reading, 1), size = 0, inside = 0;
        if (reading->at == NULL)
            return;
        if (mark < 0x80 || mark >= 0xe0)
            continue;
        if (mark < 0x90)
            inside = 2 * (mark & 0x0f);
        else if (mark < 0xa0)
            inside = mark & 0x0f;
        else if (mark < 0xc0)
            size = mark & 0x1f;
        else if (mark == 0xc1 || (mark >= 0xc7 && mark <= 0xc9) || (mark >= 0xd4 && mark <= 0xd8)) {
            reading->at = NULL; /* nothing, or an extension: none of ours has them */
            return;
        } else if (mark >= 0xdc)
            inside = take_big_endian(reading, size_of[mark - 0xc0]) * (mark >= 0xde ? 2 : 1);
        else if ((mark >= 0xc4 && mark <= 0xc6) || (mark >= 0xd9 && mark <= 0xdb))
            size = take_big_endian(reading, size_of[mark - 0xc0]);
        else
            size = (uint64_t)size_of[mark - 0xc0];
        if (reading->at == NULL || size > (uint64_t)(reading->end - reading->at) || inside > (uint64_t)(reading->end - reading->at)) {
            reading->at = NULL;
            return;
        }
        reading->at += size;
        left += inside;
    }
}

/* The next value as one of msgspec's decoders reads it; NULL, no error set, if it does not. */
static PyObject *take_by(PyObject *decoder, Reading *reading)
{
    const char *begin = (const char *)reading->at;
    if (begin == NULL)
        return NULL;
    skip(reading);
    if (reading->at == NULL)
        return NULL;
    PyObject *raw = PyBytes_FromStringAndSize(begin, (const char *)reading->at - begin), *found = NULL;
    if (raw != NULL) {
        found = PyObject_Vectorcall(decoder, &raw, 1, NULL);
        Py_DECREF(raw);
    }
    if (found == NULL) {
        PyErr_Clear();
        reading->at = NULL;
    }
    return found;
}

static PyObject *take_sizes(Reading *reading)
{
    uint64_t mark = take_big_endian(reading, 1);
    if (reading->at == NULL || (mark & 0xf0) != 0x90 || (mark & 0x0f) > NDIM_MAX) {
        reading->at = NULL;
        return NULL;
    }
    PyObject *items[NDIM_MAX];
    Py_ssize_t count = (Py_ssize_t)(mark & 0x0f);
    for (Py_ssize_t n = 0; n < count; n++) {
        uint64_t size = take_uint(reading);
        items[n] = reading->at == NULL ? NULL : PyLong_FromUnsignedLongLong(size);
    }
    return tuple_of(count, items);
}

static PyObject *take_ref(Reading *reading)
{
    static PyObject *last_dtype;
    PyObject *items[REF_FIELDS] = {NULL}, *ref = NULL;
    if (take_big_endian(reading, 1) != (0x90 | REF_FIELDS)) {
        reading->at = NULL;
        return NULL;
    }
    for (int n = R_RING; n <= R_NBYTES; n++) {
        uint64_t value = take_uint(reading);
        items[n] = reading->at == NULL ? NULL : PyLong_FromUnsignedLongLong(value);
    }
    items[R_DTYPE] = take_text(reading, KIND_CHARS_MAX, &last_dtype);
    items[R_SHAPE] = take_sizes(reading);
    items[R_STRIDES] = take_sizes(reading);
    bool whole = reading->at != NULL;
    for (int n = 0; n < REF_FIELDS; n++)
        whole = whole && items[n] != NULL;
    if (whole)
        ref = PyObject_Vectorcall((PyObject *)ref_type, items, REF_FIELDS, NULL);
    for (int n = 0; n < REF_FIELDS; n++)
        Py_XDECREF(items[n]);
    return ref;
}

/* open_packet(raw, redelivered, sequence, in_port, record): (packet, id16, SlotRef or None, bytes of the payload if it is bytes) */
static PyObject *leaf_open_packet(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    static PyObject *last_kind, *last_source, *no_port;
    if (count != 5 || packet_type == NULL || ref_type == NULL || !PyBytes_CheckExact(args[0]))
        return by_python(OPEN_PACKET, args, count);
    if (no_port == NULL && (no_port = PyUnicode_InternFromString("")) == NULL)
        return NULL;
    const uint8_t *begin = (const uint8_t *)PyBytes_AS_STRING(args[0]);
    Reading reading = {begin, begin + PyBytes_GET_SIZE(args[0])};
    enum {
        KIND, SOURCE_ID, PAYLOAD, META, ID16, WALL_NS, CAPTURE_NS, POSITION, REDELIVERED, SEQUENCE, PORT, IN_PORT, TRACE, PARENT, LEASE, FIELDS
    };
    PyObject *field[FIELDS] = {NULL}, *found = NULL, *ref = Py_None;
    Py_ssize_t nbytes = 0;

    if (take_big_endian(&reading, 1) != (0x90 | META_FIELDS))
        reading.at = NULL;
    field[ID16] = take_bytes(&reading);
    field[KIND] = take_text(&reading, KIND_CHARS_MAX, &last_kind);
    field[SOURCE_ID] = take_text(&reading, SOURCE_ID_CHARS_MAX, &last_source);
    for (int n = WALL_NS; n <= CAPTURE_NS; n++) {
        uint64_t ns = take_uint(&reading);
        field[n] = reading.at == NULL ? NULL : PyLong_FromUnsignedLongLong(ns);
    }
    if (!take_nil(&reading)) { /* with a reference there is no value */
        ref = take_ref(&reading);
        field[PAYLOAD] = Py_NewRef(Py_None);
        if (!take_nil(&reading))
            reading.at = NULL;
    } else if (take_nil(&reading))
        field[PAYLOAD] = Py_NewRef(Py_None);
    else if (reading.at != NULL && reading.at < reading.end && *reading.at >= 0xc4 && *reading.at <= 0xc6) {
        PyObject *bytes = take_bytes(&reading);
        if (bytes != NULL) {
            nbytes = PyBytes_GET_SIZE(bytes);
            field[PAYLOAD] = PyMemoryView_FromObject(bytes);
            Py_DECREF(bytes);
        }
    } else
        field[PAYLOAD] = take_by(decode_any, &reading);
    field[META] = take_nil(&reading) ? Py_NewRef(Py_None) : take_by(decode_own, &reading);
    if (take_nil(&reading))
        field[POSITION] = Py_NewRef(Py_None);
    else {
        uint64_t position = take_uint(&reading);
        field[POSITION] = reading.at == NULL ? NULL : PyLong_FromUnsignedLongLong(position);
    }
    field[TRACE] = take_nil(&reading) ? Py_NewRef(Py_None) : take_by(decode_trace, &reading);
    bool whole = reading.at != NULL && reading.at == reading.end && field[ID16] != NULL && PyBytes_GET_SIZE(field[ID16]) == ID_BYTES;
    field[REDELIVERED] = Py_NewRef(args[1]);
    field[SEQUENCE] = Py_NewRef(args[2]);
    field[PORT] = Py_NewRef(no_port);
    field[IN_PORT] = Py_NewRef(args[3]);
    field[PARENT] = Py_NewRef(args[4]);
    field[LEASE] = Py_NewRef(Py_None);
    for (int n = 0; n < FIELDS; n++)
        whole = whole && field[n] != NULL;
    if (whole && ref != NULL) {
        PyObject *items[4] = {PyObject_Vectorcall((PyObject *)packet_type, field, FIELDS, NULL), Py_NewRef(field[ID16]), Py_NewRef(ref),
                              PyLong_FromSsize_t(nbytes)};
        found = tuple_of(4, items);
    }
    for (int n = 0; n < FIELDS; n++)
        Py_XDECREF(field[n]);
    if (ref != Py_None)
        Py_XDECREF(ref);
    if (found != NULL)
        return found;
    PyErr_Clear();
    return by_python(OPEN_PACKET, args, count);
}

/* --------------------------------------------------------------------------------------------------------------------- leases and loans */

static PyObject *array_type, *dtypes; /* numpy.ndarray, payload.DTYPES */

/* The fields of an array and two of the functions that numpy hands to whoever is compiled against it, whose places are part of its ABI. They
are used if this numpy says that it has that ABI, and after a look whether an array does lie like that; else arrays are made and asked as Python
does. */
typedef struct {
    PyObject_HEAD
    char *data;
    int ndim;
    Py_ssize_t *shape, *strides;
    PyObject *base, *dtype;
    int flags;
} Array;

enum { ABI_VERSION = 0, NEW_FROM_DESCR = 94, ABI_1 = 0x01000009, ABI_2 = 0x02000000 };
enum { CONTIGUOUS = 0x1, OWN_DATA = 0x4, ALIGNED = 0x100, WRITEABLE = 0x400, PLAIN_ALIGNMENT = 16 };
static PyObject *(*array_from)(PyTypeObject *type, PyObject *dtype, int ndim, const Py_ssize_t *shape, const Py_ssize_t *strides, void *data,
                               int flags, PyObject *like); /* takes over `dtype` */

static bool lies_like(const Array *array, PyObject *dtype, const char *data, int flags)
{
    return array->ndim == 2 && array->shape[0] == 2 && array->shape[1] == 3 && array->strides[0] == 3 && array->strides[1] == 1 &&
           array->base == NULL && array->dtype == dtype && array->data == data &&
           (array->flags & (CONTIGUOUS | OWN_DATA | ALIGNED | WRITEABLE)) == flags;
}

/* `table`: the capsule that numpy shows as _ARRAY_API. */
static void learn_arrays(PyObject *table)
{
    static char room[6];
    void **functions = PyCapsule_CheckExact(table) ? PyCapsule_GetPointer(table, NULL) : NULL;
    unsigned int (*version)(void) = functions == NULL ? NULL : (unsigned int (*)(void))functions[ABI_VERSION];
    PyObject *dtype = dtypes == NULL ? NULL : PyDict_GetItemString(dtypes, "uint8");
    array_from = NULL;
    if (version != NULL && (version() == ABI_1 || version() == ABI_2) && dtype != NULL && array_type != NULL) {
        array_from = (PyObject * (*)(PyTypeObject *, PyObject *, int, const Py_ssize_t *, const Py_ssize_t *, void *, int, PyObject *))
            functions[NEW_FROM_DESCR];
        PyObject *own = PyObject_CallFunction(array_type, "((ii)O)", 2, 3, dtype), *given = NULL;
        Py_buffer buffer;
        bool like = own != NULL && PyObject_GetBuffer(own, &buffer, PyBUF_SIMPLE) == 0;
        if (like) {
            like = lies_like((Array *)own, dtype, buffer.buf, CONTIGUOUS | OWN_DATA | ALIGNED | WRITEABLE);
            PyBuffer_Release(&buffer);
        }
        if (like) {
            const Py_ssize_t shape[2] = {2, 3};
            given = array_from((PyTypeObject *)array_type, Py_NewRef(dtype), 2, shape, NULL, room, CONTIGUOUS | ALIGNED, NULL);
            like = given != NULL && lies_like((Array *)given, dtype, room, CONTIGUOUS | ALIGNED);
        }
        if (!like)
            array_from = NULL;
        Py_XDECREF(own);
        Py_XDECREF(given);
    }
    PyErr_Clear();
}

/* A lease or a loan, see node/views.py. `about`: the record of a lease, the number of the slot of a loan. One that was made with an
interface, or without any memory, has no `room`. */
typedef struct {
    PyObject_HEAD
    PyObject *about, *release, *writer, *interface;
    PyObject *room; /* keeps the ring mapped */
    PyObject *shape, *dtype, *name;
    char *begin;
    Py_ssize_t size;
} Held;

static PyTypeObject LeaseType, LoanType;

static int held_traverse(Held *self, visitproc visit, void *arg)
{
    Py_VISIT(self->about);
    Py_VISIT(self->release);
    Py_VISIT(self->writer);
    Py_VISIT(self->interface);
    Py_VISIT(self->room);
    Py_VISIT(self->shape);
    Py_VISIT(self->dtype);
    Py_VISIT(self->name);
    return 0;
}

static int held_clear(Held *self)
{
    Py_CLEAR(self->about);
    Py_CLEAR(self->release);
    Py_CLEAR(self->writer);
    Py_CLEAR(self->interface);
    Py_CLEAR(self->room);
    Py_CLEAR(self->shape);
    Py_CLEAR(self->dtype);
    Py_CLEAR(self->name);
    return 0;
}

/* Tell, in whatever thread, that nothing refers to it any more. */
static void held_finalize(PyObject *object)
{
    Held *self = (Held *)object;
    PyObject *type, *value, *traceback;
    if (self->release == NULL || self->about == NULL)
        return; /* half made */
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *found = PyObject_Vectorcall(self->release, &self->about, 1, NULL);
    if (found == NULL)
        PyErr_WriteUnraisable(self->release);
    Py_XDECREF(found);
    PyErr_Restore(type, value, traceback);
}

static void held_dealloc(PyObject *object)
{
    if (PyObject_CallFinalizerFromDealloc(object) < 0)
        return; /* somebody has kept it */
    PyObject_GC_UnTrack(object);
    held_clear((Held *)object);
    Py_TYPE(object)->tp_free(object);
}

static int held_buffer(PyObject *object, Py_buffer *buffer, int flags)
{
    Held *self = (Held *)object;
    if (self->room != NULL)
        return PyBuffer_FillInfo(buffer, object, self->begin, self->size, Py_IS_TYPE(object, &LeaseType), flags);
    PyErr_SetString(PyExc_BufferError, "it shows no memory by itself");
    return -1;
}

static PyObject *held_itself(PyObject *object, PyObject *memo)
{
    (void)memo;
    return Py_NewRef(object);
}

static PyObject *held_address(Held *self, void *closure)
{
    (void)closure;
    if (self->room != NULL)
        return PyLong_FromVoidPtr(self->begin);
    if (self->interface == NULL)
        return PyErr_Format(PyExc_AttributeError, "__array_interface__");
    PyObject *data = PyMapping_GetItemString(self->interface, "data"), *address = data == NULL ? NULL : PySequence_GetItem(data, 0);
    Py_XDECREF(data);
    return address;
}

static PyMethodDef held_methods[] = {
    {"__copy__", held_itself, METH_NOARGS, "There is one of it."},
    {"__deepcopy__", held_itself, METH_O, "There is one of it."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef held_properties[] = {
    {"address", (getter)held_address, NULL, "Where its memory begins.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef lease_members[] = {
    {"record", T_OBJECT_EX, offsetof(Held, about), READONLY, NULL},
    {"release", T_OBJECT_EX, offsetof(Held, release), READONLY, NULL},
    {"__array_interface__", T_OBJECT_EX, offsetof(Held, interface), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef loan_members[] = {
    {"slot", T_OBJECT_EX, offsetof(Held, about), READONLY, NULL},
    {"release", T_OBJECT_EX, offsetof(Held, release), READONLY, NULL},
    {"writer", T_OBJECT_EX, offsetof(Held, writer), READONLY, NULL},
    {"__array_interface__", T_OBJECT_EX, offsetof(Held, interface), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static Held *make_held(PyTypeObject *type, PyObject *about, PyObject *release, PyObject *writer)
{
    Held *self = (Held *)type->tp_alloc(type, 0); /* zeroed */
    if (self != NULL) {
        self->about = Py_NewRef(about);
        self->release = Py_NewRef(release);
        self->writer = Py_XNewRef(writer);
    }
    return self;
}

static PyObject *lease_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *record, *release, *interface;
    if ((keywords != NULL && PyDict_GET_SIZE(keywords)) || !PyArg_UnpackTuple(args, "Lease", 3, 3, &record, &release, &interface))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "Lease takes no keywords");
    Held *self = make_held(type, record, release, NULL);
    if (self != NULL && interface != Py_None)
        self->interface = Py_NewRef(interface);
    return (PyObject *)self;
}

static PyObject *loan_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *writer, *slot, *release, *interface;
    if ((keywords != NULL && PyDict_GET_SIZE(keywords)) || !PyArg_UnpackTuple(args, "Loan", 4, 4, &writer, &slot, &release, &interface))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "Loan takes no keywords");
    Held *self = make_held(type, slot, release, writer);
    if (self != NULL)
        self->interface = Py_NewRef(interface);
    return (PyObject *)self;
}

static PyBufferProcs held_as_buffer = {.bf_getbuffer = held_buffer};

#define HELD_TYPE(name, make, fields, text)                                                                                                \
    {                                                                                                                                      \
        PyVarObject_HEAD_INIT(NULL, 0).tp_name = "streamcore.node.views." name, .tp_doc = text, .tp_basicsize = sizeof(Held),              \
            .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, .tp_new = make, .tp_dealloc = held_dealloc,                               \
            .tp_finalize = held_finalize, .tp_traverse = (traverseproc)held_traverse, .tp_clear = (inquiry)held_clear,                     \
            .tp_methods = held_methods, .tp_members = fields, .tp_getset = held_properties, .tp_as_buffer = &held_as_buffer,               \
    }

static PyTypeObject LeaseType = HELD_TYPE("Lease", lease_new, lease_members, "Keeps one input packet's memory, see views.py.");
static PyTypeObject LoanType = HELD_TYPE("Loan", loan_new, loan_members, "Keeps one slot of the process' own ring, see views.py.");

static uint64_t itemsize_of(PyObject *dtype)
{
    static PyObject *last; /* kept */
    static uint64_t itemsize;
    if (dtype != last) {
        PyObject *size = PyObject_GetAttrString(dtype, "itemsize");
        if (size == NULL || !number(size, PY_SSIZE_T_MAX, &itemsize))
            itemsize = 0;
        Py_XDECREF(size);
        PyErr_Clear();
        Py_XSETREF(last, Py_NewRef(dtype));
    }
    return itemsize;
}

/* An array of what is held; NULL with an error set if numpy will not. `whole`: it is known to show all of it. */
static PyObject *array_over(Held *held, PyObject *shape, PyObject *dtype, bool *whole)
{
    uint64_t sizes[NDIM_MAX], nbytes = array_from == NULL ? 0 : itemsize_of(dtype), most = (uint64_t)held->size;
    Py_ssize_t ndim;
    bool plain = nbytes && (uintptr_t)held->begin % PLAIN_ALIGNMENT == 0 && sizes_of(shape, sizes, &ndim);
    for (Py_ssize_t n = 0; plain && n < ndim; n++)
        plain = sizes[n] && !__builtin_mul_overflow(nbytes, sizes[n], &nbytes) && nbytes <= most;
    *whole = plain && nbytes == most;
    if (*whole) {
        int flags = CONTIGUOUS | ALIGNED | (Py_IS_TYPE((PyObject *)held, &LoanType) ? WRITEABLE : 0);
        PyObject *array =
            array_from((PyTypeObject *)array_type, Py_NewRef(dtype), (int)ndim, (Py_ssize_t *)sizes, NULL, held->begin, flags, NULL);
        if (array != NULL)
            ((Array *)array)->base = Py_NewRef((PyObject *)held);
        return array;
    }
    PyObject *const args[3] = {shape, dtype, (PyObject *)held};
    return PyObject_Vectorcall(array_type, args, 3, NULL);
}

static bool has_nbytes(PyObject *array, uint64_t nbytes)
{
    uint64_t found;
    PyObject *shown = PyObject_GetAttrString(array, "nbytes");
    bool has = shown != NULL && number(shown, PY_SSIZE_T_MAX, &found) && found == nbytes;
    Py_XDECREF(shown);
    return has;
}

/* lend(reader, reach, ref, record, release): (lease, view, nbytes). `reach`: room, slots_offset, slot_bytes, slot_count. */
static PyObject *leaf_lend(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t reach[3], field[4], shape[NDIM_MAX], strides[NDIM_MAX];
    Py_ssize_t ndim, steps;
    Words *room;
    if (count != 5 || ref_type == NULL || array_type == NULL || dtypes == NULL || !PyTuple_CheckExact(args[1]) ||
        PyTuple_GET_SIZE(args[1]) != 4 || (room = words_of(PyTuple_GET_ITEM(args[1], 0), 1, false)) == NULL ||
        !Py_IS_TYPE(args[2], ref_type))
        return by_python(LEND, args, count);
    for (int n = 0; n < 3; n++)
        if (!number(PyTuple_GET_ITEM(args[1], n + 1), PY_SSIZE_T_MAX, &reach[n]))
            return by_python(LEND, args, count);
    for (int n = 0; n < 4; n++) {
        PyObject *value = field_of(args[2], ref_place[n]);
        if (value == NULL || !number(value, PY_SSIZE_T_MAX, &field[n]))
            return by_python(LEND, args, count);
    }
    PyObject *name = field_of(args[2], ref_place[R_DTYPE]), *sizes = field_of(args[2], ref_place[R_SHAPE]);
    if (name == NULL || !PyUnicode_CheckExact(name) || !sizes_of(sizes, shape, &ndim) ||
        !sizes_of(field_of(args[2], ref_place[R_STRIDES]), strides, &steps) || steps)
        return by_python(LEND, args, count);
    bool is_bytes = PyUnicode_GET_LENGTH(name) == 0;
    PyObject *dtype = PyDict_GetItem(dtypes, name); /* borrowed; bytes and msgpack are among them */
    uint64_t slots_offset = reach[0], slot_bytes = reach[1], slot_count = reach[2], slot = field[R_SLOT];
    uint64_t offset = field[R_OFFSET], nbytes = field[R_NBYTES];
    if (dtype == NULL || slot >= slot_count || offset > slot_bytes || nbytes > slot_bytes - offset ||
        slots_offset > (uint64_t)room->count || slot_bytes == 0 || (slot + 1) > ((uint64_t)room->count - slots_offset) / slot_bytes)
        return by_python(LEND, args, count);
    Held *held = make_held(&LeaseType, args[3], args[4], NULL);
    if (held == NULL)
        return NULL;
    held->room = Py_NewRef(room);
    held->begin = (char *)room->buffer.buf + slots_offset + slot * slot_bytes + offset;
    held->size = (Py_ssize_t)nbytes;
    bool whole;
    PyObject *view = array_over(held, sizes, dtype, &whole);
    if (view == NULL || (!whole && !has_nbytes(view, nbytes))) {
        /* A shape that is not that of its bytes: Python says so. This lease was nobody's. */
        PyErr_Clear();
        Py_CLEAR(held->release);
        Py_XDECREF(view);
        Py_DECREF(held);
        return by_python(LEND, args, count);
    }
    if (is_bytes)
        Py_SETREF(view, PyMemoryView_FromObject(view));
    PyObject *items[3] = {(PyObject *)held, view, Py_NewRef(field_of(args[2], ref_place[R_NBYTES]))};
    return tuple_of(3, items);
}

/* borrow(writer, room, at, nbytes, shape, dtype, name, slot, release): a writable array */
static PyObject *leaf_borrow(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t at, nbytes;
    Words *room;
    if (count != 9 || array_type == NULL || (room = words_of(args[1], 1, true)) == NULL || !number(args[2], PY_SSIZE_T_MAX, &at) ||
        !number(args[3], PY_SSIZE_T_MAX, &nbytes) || at > (uint64_t)room->count || nbytes > (uint64_t)room->count - at)
        return by_python(BORROW, args, count);
    Held *held = make_held(&LoanType, args[7], args[8], args[0]);
    if (held == NULL)
        return NULL;
    held->room = Py_NewRef(room);
    held->begin = (char *)room->buffer.buf + at;
    held->size = (Py_ssize_t)nbytes;
    held->shape = Py_NewRef(args[4]);
    held->dtype = Py_NewRef(args[5]);
    held->name = Py_NewRef(args[6]);
    bool whole;
    PyObject *array = array_over(held, args[4], args[5], &whole);
    Py_DECREF(held);
    return array;
}

/* loan_ref(array, writer, ring): its SlotRef, None for what is not the whole of a loan of this writer */
static PyObject *leaf_loan_ref(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    static PyObject *zero, *no_strides;
    if (no_strides == NULL && ((zero = PyLong_FromLong(0)) == NULL || (no_strides = PyTuple_New(0)) == NULL))
        return NULL;
    if (count != 3 || ref_type == NULL || !Py_IS_TYPE(args[0], (PyTypeObject *)array_type))
        return by_python(LOAN_REF, args, count);
    if (array_from == NULL) /* it is named as any other array is */
        Py_RETURN_NONE;
    Array *array = (Array *)args[0];
    Held *loan = (Held *)array->base;
    if (loan == NULL || !Py_IS_TYPE((PyObject *)loan, &LoanType) || loan->writer != args[1])
        Py_RETURN_NONE;
    uint64_t sizes[NDIM_MAX];
    Py_ssize_t ndim;
    bool same = loan->room != NULL && array->data == loan->begin && array->dtype == loan->dtype && (array->flags & CONTIGUOUS) &&
                sizes_of(loan->shape, sizes, &ndim) && array->ndim == ndim;
    for (Py_ssize_t n = 0; same && n < ndim; n++)
        same = array->shape[n] == (Py_ssize_t)sizes[n];
    if (!same)
        Py_RETURN_NONE;
    array->flags &= ~WRITEABLE;
    PyObject *nbytes = PyLong_FromSsize_t(loan->size), *ref = NULL;
    PyObject *const fields[REF_FIELDS] = {args[2], loan->about, zero, nbytes, loan->name, loan->shape, no_strides};
    if (nbytes != NULL)
        ref = PyObject_Vectorcall((PyObject *)ref_type, fields, REF_FIELDS, NULL);
    Py_XDECREF(nbytes);
    return ref;
}

/* has_form(array, dtype, shape) */
static PyObject *leaf_has_form(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    uint64_t sizes[NDIM_MAX];
    Py_ssize_t ndim;
    if (count != 3 || array_from == NULL || !Py_IS_TYPE(args[0], (PyTypeObject *)array_type) || !sizes_of(args[2], sizes, &ndim))
        return by_python(HAS_FORM, args, count);
    const Array *array = (Array *)args[0];
    bool has = array->dtype == args[1] && array->ndim == ndim;
    for (Py_ssize_t n = 0; has && n < ndim; n++)
        has = (uint64_t)array->shape[n] == sizes[n];
    return PyBool_FromLong(has);
}

/* ------------------------------------------------------------------------------------------------------------------------------- module */

#define FAST(name) #name, (PyCFunction)(void (*)(void))leaf_##name, METH_FASTCALL

static PyMethodDef leaf_methods[] = {
    {FAST(sealed), "sealed(message, key)"},
    {FAST(unsealed), "unsealed(raw, key)"},
    {FAST(data_one), "data_one(edge, incarnation, want, sequence, sent_ns, entry, flags, meta)"},
    {FAST(data_many), "data_many(edge, incarnation, want, records)"},
    {FAST(receipt), "receipt(edge, incarnation, taken_upto, completions)"},
    {FAST(gather), "gather(epoll, fd, timeout_ms, linger_ns)"},
    {FAST(transmit), "transmit(send, fd, message, key)"},
    {"read_header", leaf_read_header, METH_O, "read_header(raw)"},
    {FAST(read_data), "read_data(raw, count)"},
    {FAST(read_receipt), "read_receipt(raw, count)"},
    {FAST(encode_packet), "encode_packet(packet, id16, kind, ref, value, position, trace)"},
    {"fields_of", leaf_fields_of, METH_O, "fields_of(packet)"},
    {"make_ids", leaf_make_ids, METH_O, "make_ids(prefix)"},
    {FAST(new_packet) | METH_KEYWORDS, "new_packet(cls, *, ...): see StreamPacket.new"},
    {FAST(open_packet), "open_packet(raw, redelivered, sequence, in_port, record)"},
    {FAST(lend), "lend(reader, reach, ref, record, release)"},
    {FAST(borrow), "borrow(writer, room, at, nbytes, shape, dtype, name, slot, release)"},
    {FAST(loan_ref), "loan_ref(array, writer, ring)"},
    {FAST(has_form), "has_form(array, dtype, shape)"},
    {"words", leaf_words, METH_O, "words(view)"},
    {FAST(clear_pending), "clear_pending(table, entry, bit)"},
    {FAST(put_row), "put_row(room, table, metas, places, entry, sequence, pending, ref, parent, flags, meta)"},
    {FAST(note), "note(words, at, ns)"},
    {FAST(put_span), "put_span(words, at, number, *fields)"},
    {FAST(vouched), "vouched(table, entry_count, sequence_max, records)"},
    {NULL, NULL, 0, NULL},
};

static bool keep(PyObject **where, PyObject *what)
{
    Py_XSETREF(*where, Py_NewRef(what));
    return true;
}

/* learn(name, python): keep what a name means in Python; returns what is to stand for it. */
static PyObject *learn(PyObject *module, PyObject *args)
{
    const char *name;
    PyObject *python;
    bool known = false;
    if (!PyArg_ParseTuple(args, "sO", &name, &python))
        return NULL;
    for (int n = 0; n < LEAVES && !known; n++)
        if (!strcmp(name, leaf_names[n]))
            known = keep(&python_of[n], python);
    if (known || !strcmp(name, "words") || !strcmp(name, "Lease") || !strcmp(name, "Loan"))
        return PyObject_GetAttrString(module, name);
    if (!strcmp(name, "Header") && PyType_Check(python) && PyType_IsSubtype((PyTypeObject *)python, &PyTuple_Type))
        known = keep((PyObject **)&header_type, python);
    else if (!strcmp(name, "StreamPacket")) {
        learn_places(python, &packet_type, packet_fields, packet_place, PACKET_PLACES);
        known = true;
    } else if (!strcmp(name, "SlotRef")) {
        learn_places(python, &ref_type, ref_fields, ref_place, REF_FIELDS);
        known = true;
    } else if (!strcmp(name, "ndarray") && PyType_Check(python))
        known = keep(&array_type, python);
    else if (!strcmp(name, "DTYPES") && PyDict_CheckExact(python))
        known = keep(&dtypes, python);
    else if (!strcmp(name, "ARRAY_API")) {
        learn_arrays(python);
        known = true;
    } else if (!strcmp(name, "encode_json"))
        known = keep(&encode_any, python);
    else if (!strcmp(name, "decode_json"))
        known = keep(&decode_any, python);
    else if (!strcmp(name, "decode_own"))
        known = keep(&decode_own, python);
    else if (!strcmp(name, "decode_trace"))
        known = keep(&decode_trace, python);
    if (known)
        return Py_NewRef(python);
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_LookupError, "found '%s' as %R, which nothing here stands for", name, python);
    return NULL;
}

/* Does it look into packets and references by itself, or is all of that left to Python. */
static PyObject *knows_packets(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    return PyBool_FromLong(packet_type != NULL && ref_type != NULL);
}

static PyObject *fold(PyObject *module, PyObject *wanted)
{
    (void)module;
    folds = wanted == Py_True && can_fold();
    return PyBool_FromLong(folds);
}

static PyMethodDef module_methods[] = {
    {"fold", fold, METH_O, "fold(wanted): sum messages by multiplying polynomials, as is done where the processor can; is it done now."},
    {"knows_packets", knows_packets, METH_NOARGS, "knows_packets(): does it look into packets by itself."},
    {"learn", learn, METH_VARARGS, "learn(name, python): keep what a name means in Python; returns what is to stand for it."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "streamcore.leaves",
    .m_doc = "The leaves of the inner loop, see leaves.c.",
    .m_size = -1,
    .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit_leaves(void)
{
    PyObject *zlib = PyImport_ImportModule("zlib");
    if (zlib == NULL)
        return NULL;
    make_crc_of_byte();
    folds = can_fold();
    crc32_of = PyObject_GetAttrString(zlib, "crc32");
    Py_DECREF(zlib);
    if (crc32_of == NULL || PyType_Ready(&WordsType) < 0 || PyType_Ready(&IdsType) < 0 || PyType_Ready(&LeaseType) < 0 ||
        PyType_Ready(&LoanType) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && (PyModule_AddFunctions(module, leaf_methods) < 0 || PyModule_AddType(module, &LeaseType) < 0 ||
                           PyModule_AddType(module, &LoanType) < 0)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
