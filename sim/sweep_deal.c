/* sweep_deal.c -- who gets which point, and what became of it. */
#include "sweep_deal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "progress.h"

#define POLL_NS   1000000   /* between looks for messages */
#define REDRAW_NS 100000000 /* of the bar, where nobody sends any */

enum kind {
    KIND_ASK,     /* to rank 0: a card, please */
    KIND_CARD,    /* from rank 0: number, id */
    KIND_NONE,    /* from rank 0: there are no more */
    KIND_DONE,    /* to rank 0: number, nanoseconds of CPU, text of problems, id: enum mark */
    KIND_GOODBYE, /* to rank 0: nanoseconds of CPU, number of workers */
    KIND_GO,      /* from rank 0: all are done */
};

enum mark { MARK_SOUND, MARK_FAILED, MARK_FATAL };

struct report {
    struct report *next;
    struct team_message message;
};

void sweep_init_wakes(struct sweep_hand *hand)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&hand->cards, NULL);
    pthread_cond_init(&hand->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Rank 0, the mutex held. */
static bool deal_one(struct sweep_hand *hand, struct sweep_card *card)
{
    if (hand->is_stopped || hand->next == hand->plan.num_todo) {
        return false;
    }
    card->point = hand->plan.todo[hand->next++];
    card->run_id = hand->plan.run_id[card->point];
    return true;
}

bool sweep_take(struct sweep_hand *hand, struct sweep_card *card)
{
    pthread_mutex_lock(&hand->mutex);
    bool has_card = false;
    if (hand->team->rank == 0) {
        has_card = deal_one(hand, card);
    } else {
        hand->num_waiting++;
        pthread_cond_signal(&hand->news);
        while (hand->num_cards == 0 && !hand->is_stopped) {
            pthread_cond_wait(&hand->cards, &hand->mutex);
        }
        hand->num_waiting--;
        has_card = hand->num_cards > 0;
        if (has_card) {
            *card = hand->card[--hand->num_cards];
        }
    }
    pthread_mutex_unlock(&hand->mutex);
    return has_card;
}

static void sleep_ns(long nanoseconds)
{
    const struct timespec rest = {.tv_nsec = nanoseconds};
    (void)nanosleep(&rest, NULL);
}

void sweep_report(struct sweep_hand *hand, const struct sweep_card *card, enum status status,
                  bool is_fatal, const char *problems, double cpu_s)
{
    struct report *report = NULL;
    while ((report = calloc(1, sizeof *report)) == NULL) {
        sleep_ns(REDRAW_NS); /* a report may not be lost; others give memory back */
    }
    report->message = (struct team_message){.kind = KIND_DONE,
                                            .rank = hand->team->rank,
                                            .number = card->point,
                                            .nanoseconds = (int64_t)(cpu_s * 1e9)};
    if (status != STATUS_OK) {
        report->message.id = is_fatal ? MARK_FATAL : MARK_FAILED;
        const char *text = problems[0] != '\0' ? problems : "out of memory";
        (void)snprintf(report->message.text, TEAM_TEXT_BYTES, "%s", text);
    }
    pthread_mutex_lock(&hand->mutex);
    report->next = hand->report;
    hand->report = report;
    pthread_cond_signal(&hand->news);
    pthread_mutex_unlock(&hand->mutex);
}

void sweep_worker_left(struct sweep_hand *hand)
{
    pthread_mutex_lock(&hand->mutex);
    hand->num_at_work--;
    pthread_cond_signal(&hand->news);
    pthread_mutex_unlock(&hand->mutex);
}

/* What the talking thread keeps. */
struct dealer {
    struct sweep_hand *hand;
    struct progress progress;
    enum status status;
    struct error *error;
};

static void send(const struct sweep_hand *hand, int32_t rank, enum kind kind)
{
    struct team_message message = {.kind = (int32_t)kind, .rank = hand->team->rank};
    hand->team->send(rank, &message);
}

static void show_progress(struct dealer *dealer)
{
    const struct sweep_outcome *outcome = dealer->hand->outcome;
    int64_t done = outcome->num_simulated + outcome->num_failed;
    int64_t total = dealer->hand->plan.num_todo;
    progress_update(&dealer->progress, done, total);
}

/* Rank 0: what became of a point. */
static void settle(struct dealer *dealer, const struct team_message *message)
{
    struct sweep_hand *hand = dealer->hand;
    struct sweep_outcome *outcome = hand->outcome;
    outcome->points_cpu_s += 1e-9 * (double)message->nanoseconds;
    outcome->num_simulated += message->id == MARK_SOUND;
    outcome->num_failed += message->id == MARK_FAILED;
    if (message->id == MARK_FAILED) {
        char label[SWEEP_LABEL];
        hand->source->label(hand->source->context, message->number, label);
        sweep_tell_failure(hand->options->results, message->number, label, message->text);
        for (const char *line = message->text; *line != '\0';) {
            int length = (int)strcspn(line, "\n");
            (void)error_add(&outcome->failures, STATUS_INVALID, "%s: %.*s", label, length, line);
            line += length + (line[length] == '\n');
        }
    }
    if (message->id == MARK_FATAL && dealer->status == STATUS_OK) {
        size_t length = strcspn(message->text, "\n");
        dealer->status = error_add(dealer->error, STATUS_IO, "%.*s", (int)length, message->text);
        pthread_mutex_lock(&hand->mutex);
        hand->is_stopped = true;
        pthread_mutex_unlock(&hand->mutex);
    }
}

/* Rank 0: a message of another. */
static void answer(struct dealer *dealer, const struct team_message *message)
{
    struct sweep_hand *hand = dealer->hand;
    struct sweep_card card = {0};
    if (message->kind == KIND_ASK) {
        pthread_mutex_lock(&hand->mutex);
        bool has_card = deal_one(hand, &card);
        pthread_mutex_unlock(&hand->mutex);
        struct team_message reply = {
            .kind = has_card ? KIND_CARD : KIND_NONE, .number = card.point, .id = card.run_id};
        hand->team->send(message->rank, &reply);
    } else if (message->kind == KIND_DONE) {
        settle(dealer, message);
    } else {
        assert(message->kind == KIND_GOODBYE);
        hand->num_gone++;
        hand->outcome->cpu_s += 1e-9 * (double)message->nanoseconds;
        hand->outcome->num_workers += (int32_t)message->number;
    }
}

/* Another rank: an answer of rank 0. */
static void take_card(struct sweep_hand *hand, const struct team_message *message)
{
    pthread_mutex_lock(&hand->mutex);
    hand->num_asked--;
    if (message->kind == KIND_CARD) {
        assert(hand->num_cards <= SWEEP_THREADS_MAX);
        hand->card[hand->num_cards++] = (struct sweep_card){message->number, message->id};
    } else {
        assert(message->kind == KIND_NONE);
        hand->is_stopped = true;
    }
    pthread_cond_broadcast(&hand->cards);
    pthread_mutex_unlock(&hand->mutex);
}

static struct report *take_reports(struct sweep_hand *hand)
{
    pthread_mutex_lock(&hand->mutex);
    struct report *report = hand->report;
    hand->report = NULL;
    pthread_mutex_unlock(&hand->mutex);
    return report;
}

/* Tells, or notes, what this rank's workers report. */
static void tell_reports(struct dealer *dealer)
{
    struct sweep_hand *hand = dealer->hand;
    struct report *report = take_reports(hand);
    while (report != NULL) {
        struct report *next = report->next;
        if (hand->team->rank == 0) {
            settle(dealer, &report->message);
        } else {
            hand->team->send(0, &report->message);
        }
        free(report);
        report = next;
    }
}

static void ask_for_cards(struct sweep_hand *hand)
{
    pthread_mutex_lock(&hand->mutex);
    int32_t wanted = hand->num_waiting + 1 - hand->num_cards - hand->num_asked;
    wanted = hand->is_stopped || hand->num_at_work == 0 ? 0 : wanted;
    hand->num_asked += wanted > 0 ? wanted : 0;
    pthread_mutex_unlock(&hand->mutex);
    for (int32_t i = 0; i < wanted; i++) {
        send(hand, 0, KIND_ASK);
    }
}

/* True when something was said. */
static bool listen(struct dealer *dealer)
{
    struct sweep_hand *hand = dealer->hand;
    struct team_message message;
    if (hand->team->size == 1 || !hand->team->take(&message)) {
        return false;
    }
    if (hand->team->rank == 0) {
        answer(dealer, &message);
    } else {
        take_card(hand, &message);
    }
    return true;
}

/* Until a worker has news, or it is time to look for messages. */
static void rest(struct sweep_hand *hand)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += hand->team->size > 1 ? POLL_NS : REDRAW_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&hand->mutex);
    if (hand->report == NULL && (hand->num_at_work > 0 || hand->team->size > 1)) {
        pthread_cond_timedwait(&hand->news, &hand->mutex, &until);
    }
    pthread_mutex_unlock(&hand->mutex);
}

/* Nothing is left to do, to ask or to tell here. */
static bool is_over(struct sweep_hand *hand)
{
    pthread_mutex_lock(&hand->mutex);
    bool is_over = hand->num_at_work == 0 && hand->report == NULL && hand->num_asked == 0;
    is_over = is_over && (hand->team->rank != 0 || hand->num_gone == hand->team->size - 1);
    pthread_mutex_unlock(&hand->mutex);
    return is_over;
}

enum status sweep_deal(struct sweep_hand *hand, struct error *error)
{
    struct dealer dealer = {.hand = hand, .error = error};
    bool is_first = hand->team->rank == 0;
    if (is_first) {
        hand->outcome->num_done = hand->plan.num_done;
        hand->outcome->num_same = hand->plan.num_same;
        hand->outcome->num_workers += hand->num_workers;
    }
    progress_begin(&dealer.progress, "simulating", hand->options->unit);
    while (!is_over(hand)) {
        tell_reports(&dealer);
        if (!is_first) {
            ask_for_cards(hand);
        }
        bool has_heard = false;
        while (listen(&dealer)) {
            has_heard = true;
        }
        if (is_first) {
            show_progress(&dealer);
        }
        if (!has_heard) {
            rest(hand);
        }
    }
    progress_end(&dealer.progress);
    return dealer.status;
}

void sweep_say_goodbye(struct sweep_hand *hand)
{
    struct team_message message = {.kind = KIND_GOODBYE,
                                   .number = hand->num_workers,
                                   .nanoseconds = (int64_t)(hand->cpu_s * 1e9)};
    hand->team->send(0, &message);
    while (!hand->team->take(&message)) {
        sleep_ns(POLL_NS);
    }
    assert(message.kind == KIND_GO);
}

void sweep_send_home(struct sweep_hand *hand)
{
    for (int32_t rank = 1; rank < hand->team->size; rank++) {
        send(hand, rank, KIND_GO);
    }
}
