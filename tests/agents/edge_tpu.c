/* Stands in for libedgetpu.so.1: a TFLite delegate that computes the operator edgetpu-custom-op, which sets the
   output whose number is the first byte of its input. The Edge TPU is absent while the file $EDGE_TPU_UNPLUGGED exists.

   Compiled without headers; the structures are the beginning of those in TensorFlow Lite's core/c/common.h. */

typedef unsigned long size_t;
typedef struct { int size; int data[]; } IntArray;
typedef struct { int type; unsigned char *data; IntArray *dims; long params; int allocation; size_t bytes; long rest[8]; }
    Tensor;
typedef struct { IntArray *inputs, *outputs, *intermediates, *temporaries; void *user_data; } Node;
typedef struct Context Context;
typedef struct {
    void *(*init)(Context *, const char *, size_t);
    void (*free)(Context *, void *);
    int (*prepare)(Context *, Node *);
    int (*invoke)(Context *, Node *);
    const char *(*profiling_string)(const Context *, const Node *);
    int builtin_code;
    const char *custom_name;
    int version;
    void *external;
    void *async_kernel;
    unsigned long inplace_operator;
} Registration;
typedef struct Delegate {
    void *data;
    int (*prepare)(Context *, struct Delegate *);
    void *copy_from, *copy_to, *free_handle;
    long flags;
    void *builder;
} Delegate;
struct Context {
    size_t tensors_size;
    int (*get_execution_plan)(Context *, IntArray **);
    Tensor *tensors;
    void *impl;
    int (*resize_tensor)(Context *, Tensor *, IntArray *);
    void (*report_error)(Context *, const char *, ...);
    int (*add_tensors)(Context *, int, int *);
    int (*get_node)(Context *, int, Node **, Registration **);
    int (*replace)(Context *, Registration, const IntArray *, Delegate *);
};

extern int access(const char *, int);
extern char *getenv(const char *);
extern int strcmp(const char *, const char *);

static int is_unplugged(void) {
    const char *file = getenv("EDGE_TPU_UNPLUGGED");
    return file && access(file, 0) == 0;
}

static int invoke(Context *context, Node *node) {
    if (is_unplugged()) {
        context->report_error(context, "USB transfer error 5 [LibUsbDataOut]");
        return 1;
    }
    const unsigned char first = context->tensors[node->inputs->data[0]].data[0];
    for (int i = 0; i < node->outputs->size; i++) {
        Tensor *output = &context->tensors[node->outputs->data[i]];
        for (size_t at = 0; at < output->bytes; at++)
            output->data[at] = at == first ? 255 : 0;
    }
    return 0;
}

static int prepare(Context *context, Delegate *delegate) {
    static struct { int size; int data[8]; } taken;
    IntArray *plan;
    Node *node;
    Registration *registration;
    context->get_execution_plan(context, &plan);
    for (int i = 0; i < plan->size && taken.size < 8; i++) {
        context->get_node(context, plan->data[i], &node, &registration);
        if (registration->custom_name && !strcmp(registration->custom_name, "edgetpu-custom-op"))
            taken.data[taken.size++] = plan->data[i];
    }
    Registration ours = {.invoke = invoke, .custom_name = "EdgeTpuDelegate", .version = 1};
    return context->replace(context, ours, (const IntArray *)&taken, delegate);
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
    static Delegate delegate = {.prepare = prepare, .flags = 1}; /* it allows dynamic tensors */
    (void)keys, (void)values, (void)count;
    if (is_unplugged()) {
        report("Failed to load delegate: no device");
        return 0;
    }
    return &delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { (void)delegate; }
