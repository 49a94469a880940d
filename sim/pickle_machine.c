/*
 * pickle_machine.c -- the stack machine of a pickle, without the opcodes that could run something.
 *
 * Opcodes: CPython, Lib/pickletools.py. Values that a pickle builds live in arrays; containers are
 * numbers, so a list that is put into itself is no more than its own number. Every opcode consumes
 * a byte or more of a text of bounded size, which bounds the machine.
 */
#include <stdlib.h>
#include <string.h>

#include "pickle_internal.h"

enum opcode {
    OP_PROTO = 0x80,
    OP_MARK = '(',
    OP_STOP = '.',
    OP_NONE = 'N',
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_LONG1 = 0x8a,
    OP_BINFLOAT = 'G',
    OP_BINUNICODE = 'X',
    OP_EMPTY_TUPLE = ')',
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_TUPLE = 't',
    OP_EMPTY_LIST = ']',
    OP_APPEND = 'a',
    OP_APPENDS = 'e',
    OP_EMPTY_DICT = '}',
    OP_SETITEM = 's',
    OP_SETITEMS = 'u',
    OP_GLOBAL = 'c',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
};

void *pickle_grow(void *array, int64_t count, size_t size)
{
    bool is_full = (count & (count - 1)) == 0; /* 0, 1, 2, 4, 8, ... */
    size_t capacity = count == 0 ? 1 : (size_t)count * 2;
    return is_full ? realloc(array, capacity * size) : array;
}

enum status pickle_container_new(struct pickle *pickle, struct pickle_value *value,
                                 enum pickle_kind kind)
{
    if (pickle->num_containers >= PICKLE_CONTAINERS_MAX) {
        return STATUS_INVALID;
    }
    void *larger =
        pickle_grow(pickle->container, pickle->num_containers, sizeof *pickle->container);
    if (larger == NULL) {
        return STATUS_NO_MEMORY;
    }
    pickle->container = larger;
    pickle->container[pickle->num_containers] = (struct pickle_array){.item = NULL};
    *value = (struct pickle_value){.kind = kind, .as.index = pickle->num_containers};
    pickle->num_containers++;
    return STATUS_OK;
}

enum status pickle_array_append(struct pickle_array *array, const struct pickle_value *item,
                                int64_t count)
{
    if (count > array->capacity - array->count) {
        int64_t capacity = array->count == 0 ? count : 2 * (array->count + count);
        void *larger = realloc(array->item, (size_t)capacity * sizeof *array->item);
        if (larger == NULL) {
            return STATUS_NO_MEMORY;
        }
        array->item = larger;
        array->capacity = capacity;
    }
    memcpy(array->item + array->count, item, (size_t)count * sizeof *item);
    array->count += count;
    return STATUS_OK;
}

enum status pickle_refuse(struct pickle_machine *machine, const char *what)
{
    return error_add(machine->error, STATUS_INVALID, "%s: byte %lld of the pickle: %s",
                     machine->pickle->path, (long long)machine->begin, what);
}

enum status pickle_checked(struct pickle_machine *machine, enum status status, const char *what)
{
    switch (status) {
    case STATUS_OK:
        return status;
    case STATUS_NO_MEMORY:
        return error_add(machine->error, status, "%s: no memory for its pickle",
                         machine->pickle->path);
    case STATUS_INVALID:
    case STATUS_IO:
    case STATUS_CUDA:
        break;
    }
    return pickle_refuse(machine, what);
}

/* The next bytes of the text; NULL, and told, when they are not there. */
static const unsigned char *take(struct pickle_machine *machine, uint64_t bytes)
{
    if (bytes > (uint64_t)(machine->pickle->num_bytes - machine->at)) {
        (void)pickle_refuse(machine, "ends in the middle; the file is truncated, write it again");
        return NULL;
    }
    const char *text = machine->pickle->text + machine->at;
    machine->at += (int64_t)bytes;
    return (const unsigned char *)text;
}

/* A little-endian number of so many bytes; false: the text ends. */
static bool take_number(struct pickle_machine *machine, uint64_t *number, int32_t bytes)
{
    const unsigned char *text = take(machine, (uint64_t)bytes);
    *number = 0;
    for (int32_t i = 0; text != NULL && i < bytes; i++) {
        *number |= (uint64_t)text[i] << (8 * i);
    }
    return text != NULL;
}

enum status pickle_push(struct pickle_machine *machine, struct pickle_value value)
{
    return pickle_checked(machine, pickle_array_append(&machine->stack, &value, 1), "");
}

static enum status push_int(struct pickle_machine *machine, int64_t integer)
{
    return pickle_push(machine, (struct pickle_value){.kind = PICKLE_INT, .as.integer = integer});
}

/* The values above the last mark, or above the bottom. */
int64_t pickle_num_above_mark(const struct pickle_machine *machine)
{
    int64_t count = machine->marks.count;
    int64_t floor = count > 0 ? machine->marks.item[count - 1].as.integer : 0;
    return machine->stack.count - floor;
}

static enum status push_mark(struct pickle_machine *machine)
{
    struct pickle_value height = {.kind = PICKLE_INT, .as.integer = machine->stack.count};
    return pickle_checked(machine, pickle_array_append(&machine->marks, &height, 1), "");
}

/* Takes the last mark away and says how many values stood above it; -1: there is none. */
static int64_t pop_mark(struct pickle_machine *machine)
{
    int64_t count = machine->marks.count > 0 ? pickle_num_above_mark(machine) : -1;
    machine->marks.count -= count >= 0 ? 1 : 0;
    return count;
}

static enum status push_empty(struct pickle_machine *machine, enum pickle_kind kind)
{
    struct pickle_value value;
    enum status status = pickle_container_new(machine->pickle, &value, kind);
    status = pickle_checked(machine, status, "holds more lists, tuples and dicts than can be read");
    return status == STATUS_OK ? pickle_push(machine, value) : status;
}

/* The topmost count values become one tuple. */
static enum status make_tuple(struct pickle_machine *machine, int64_t count)
{
    struct pickle_value value;
    if (count < 0 || count > pickle_num_above_mark(machine)) {
        return pickle_refuse(machine, "a tuple of values that are not there");
    }
    enum status status = pickle_container_new(machine->pickle, &value, PICKLE_TUPLE);
    if (status == STATUS_OK && count > 0) {
        machine->stack.count -= count;
        status = pickle_array_append(&machine->pickle->container[value.as.index],
                                     machine->stack.item + machine->stack.count, count);
    }
    status = pickle_checked(machine, status, "holds more lists, tuples and dicts than can be read");
    return status == STATUS_OK ? pickle_push(machine, value) : status;
}

/* The topmost count values go into the container below them. */
static enum status put_into(struct pickle_machine *machine, enum pickle_kind kind, int64_t count)
{
    if (count < 0 || count >= pickle_num_above_mark(machine) ||
        (kind == PICKLE_DICT && count % 2 != 0)) {
        return pickle_refuse(machine, "values for a list or dict that is not there");
    }
    machine->stack.count -= count;
    const struct pickle_value *item = machine->stack.item + machine->stack.count;
    if (item[-1].kind != kind) {
        return pickle_refuse(machine, "values for something that is no list or dict");
    }
    if (count == 0) {
        return STATUS_OK;
    }
    struct pickle_array *array = &machine->pickle->container[item[-1].as.index];
    return pickle_checked(machine, pickle_array_append(array, item, count), "");
}

/* Pickles number what they remember from 0, without holes. */
static enum status remember(struct pickle_machine *machine, uint64_t index)
{
    if (pickle_num_above_mark(machine) < 1 || index > (uint64_t)machine->memo.count) {
        return pickle_refuse(machine, "remembers nothing, or at a number out of order");
    }
    const struct pickle_value *top = &machine->stack.item[machine->stack.count - 1];
    if (index < (uint64_t)machine->memo.count) {
        machine->memo.item[index] = *top;
        return STATUS_OK;
    }
    return pickle_checked(machine, pickle_array_append(&machine->memo, top, 1), "");
}

static enum status recall(struct pickle_machine *machine, uint64_t index)
{
    return index < (uint64_t)machine->memo.count
               ? pickle_push(machine, machine->memo.item[index])
               : pickle_refuse(machine, "recalls what was never remembered");
}

static enum status push_text(struct pickle_machine *machine, uint64_t length)
{
    int64_t offset = machine->at;
    return take(machine, length) == NULL
               ? STATUS_INVALID
               : pickle_push(machine, (struct pickle_value){.kind = PICKLE_TEXT,
                                                            .length = (uint32_t)length,
                                                            .as.offset = offset});
}

/* Two's complement, little-endian, as short as possible. */
static enum status push_long(struct pickle_machine *machine, uint64_t length)
{
    uint64_t number = 0;
    if (length > sizeof number) {
        return pickle_refuse(machine, "a whole number of more than 64 bits");
    }
    if (!take_number(machine, &number, (int32_t)length)) {
        return STATUS_INVALID;
    }
    int32_t spare = 64 - 8 * (int32_t)length;
    bool is_negative = length > 0 && number >> (8 * length - 1) != 0;
    number |= is_negative && spare > 0 ? ~UINT64_C(0) << (64 - spare) : 0;
    return push_int(machine, (int64_t)number);
}

static enum status push_float(struct pickle_machine *machine)
{
    struct pickle_value value = {.kind = PICKLE_FLOAT};
    const unsigned char *text = take(machine, sizeof value.as.number);
    uint64_t bits = 0;
    for (size_t i = 0; text != NULL && i < sizeof bits; i++) { /* the only big-endian number */
        bits = bits << 8 | text[i];
    }
    memcpy(&value.as.number, &bits, sizeof bits);
    return text != NULL ? pickle_push(machine, value) : STATUS_INVALID;
}

static enum status stop(struct pickle_machine *machine)
{
    if (machine->stack.count != 1 || machine->marks.count != 0) {
        return pickle_refuse(machine, "stops with more than one value, or none");
    }
    machine->pickle->root = machine->stack.item[0];
    machine->stopped = true;
    return STATUS_OK;
}

/* How many bytes of number follow an opcode. */
static int32_t argument_bytes(unsigned opcode)
{
    switch (opcode) {
    case OP_PROTO:
    case OP_BININT1:
    case OP_LONG1:
    case OP_BINPUT:
    case OP_BINGET:
        return 1;
    case OP_BININT2:
        return 2;
    case OP_BININT:
    case OP_BINUNICODE:
    case OP_LONG_BINPUT:
    case OP_LONG_BINGET:
        return 4;
    default:
        return 0;
    }
}

static enum status execute(struct pickle_machine *machine, unsigned opcode, uint64_t number)
{
    switch (opcode) {
    case OP_PROTO:
        return number == 2
                   ? STATUS_OK
                   : pickle_refuse(machine, "is not of protocol 2, the one torch.save writes");
    case OP_MARK:
        return push_mark(machine);
    case OP_STOP:
        return stop(machine);
    case OP_NONE:
        return pickle_push(machine, (struct pickle_value){.kind = PICKLE_NONE});
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return pickle_push(machine, (struct pickle_value){.kind = PICKLE_BOOL,
                                                          .as.boolean = opcode == OP_NEWTRUE});
    case OP_BININT:
        return push_int(machine, (int32_t)(uint32_t)number);
    case OP_BININT1:
    case OP_BININT2:
        return push_int(machine, (int64_t)number);
    case OP_LONG1:
        return push_long(machine, number);
    case OP_BINFLOAT:
        return push_float(machine);
    case OP_BINUNICODE:
        return push_text(machine, number);
    case OP_EMPTY_TUPLE:
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        return make_tuple(machine, opcode == OP_EMPTY_TUPLE ? 0 : (int64_t)opcode - OP_TUPLE1 + 1);
    case OP_TUPLE:
        return make_tuple(machine, pop_mark(machine));
    case OP_EMPTY_LIST:
        return push_empty(machine, PICKLE_LIST);
    case OP_EMPTY_DICT:
        return push_empty(machine, PICKLE_DICT);
    case OP_APPEND:
        return put_into(machine, PICKLE_LIST, 1);
    case OP_APPENDS:
        return put_into(machine, PICKLE_LIST, pop_mark(machine));
    case OP_SETITEM:
        return put_into(machine, PICKLE_DICT, 2);
    case OP_SETITEMS:
        return put_into(machine, PICKLE_DICT, pop_mark(machine));
    case OP_GLOBAL:
        return pickle_push_global(machine);
    case OP_BINPUT:
    case OP_LONG_BINPUT:
        return remember(machine, number);
    case OP_BINGET:
    case OP_LONG_BINGET:
        return recall(machine, number);
    case OP_BINPERSID:
        return pickle_push_storage(machine);
    case OP_REDUCE:
        return pickle_reduce(machine);
    default:
        break;
    }
    return error_add(machine->error, STATUS_INVALID,
                     "%s: byte %lld of the pickle: opcode 0x%02x is none of those that tensors "
                     "need; save the object with torch.save's own settings",
                     machine->pickle->path, (long long)machine->begin, opcode);
}

enum status pickle_run(struct pickle *pickle, struct error *error)
{
    struct pickle_machine machine = {.pickle = pickle, .error = error};
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !machine.stopped) {
        uint64_t number = 0;
        machine.begin = machine.at;
        const unsigned char *opcode = take(&machine, 1);
        bool whole = opcode != NULL && take_number(&machine, &number, argument_bytes(*opcode));
        status = whole ? execute(&machine, *opcode, number) : STATUS_INVALID;
    }
    free(machine.stack.item);
    free(machine.marks.item);
    free(machine.memo.item);
    return status;
}
