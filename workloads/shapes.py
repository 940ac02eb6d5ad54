"""Shapes: the weight matrices of published models, rows (outputs) x columns (inputs), as multiplied.

Facts, from each model's config.json on the Hugging Face hub (Llama, Mistral, Qwen2.5, OPT), from the papers'
tables (MobileNet v1: arXiv 1704.04861, table 1; MobileNet v2: arXiv 1801.04381, table 2; EfficientNet-B0:
arXiv 1905.11946, table 1; ResNet-50: arXiv 1512.03385, table 1) and from the names of the Deep Learning
Matrix Collection (Gale et al., "Sparse GPU Kernels for Deep Learning", SC 2020). Query, key and value are
fused; gate and up are each their own matrix.
"""

ANCHOR = (4096, 4096)  # the attention output of Llama-2-7B, Llama-3-8B and Mistral-7B
PREFILL = (2048, 2048)  # the attention output of OPT-1.3B: many tokens within minutes on two cores

LLM = {
    "Llama-2-7B qkv": (12288, 4096),
    "Llama-2-7B o": (4096, 4096),
    "Llama-2-7B gate": (11008, 4096),
    "Llama-2-7B down": (4096, 11008),
    "Llama-2-13B qkv": (15360, 5120),
    "Llama-2-13B o": (5120, 5120),
    "Llama-2-13B gate": (13824, 5120),
    "Llama-2-13B down": (5120, 13824),
    "Llama-3-70B qkv": (10240, 8192),
    "Llama-3-70B o": (8192, 8192),
    "Llama-3-70B gate": (28672, 8192),
    "Llama-3-70B down": (8192, 28672),
    "Llama-3-8B qkv": (6144, 4096),  # Mistral-7B has the same four
    "Llama-3-8B o": (4096, 4096),
    "Llama-3-8B gate": (14336, 4096),
    "Llama-3-8B down": (4096, 14336),
    "Qwen2.5-7B qkv": (4608, 3584),
    "Qwen2.5-7B o": (3584, 3584),
    "Qwen2.5-7B gate": (18944, 3584),
    "Qwen2.5-7B down": (3584, 18944),
    "Qwen2.5-72B gate": (29568, 8192),
    "Qwen2.5-72B down": (8192, 29568),
    "OPT-30B qkv": (21504, 7168),
    "OPT-30B o": (7168, 7168),
    "OPT-30B up": (28672, 7168),
    "OPT-30B down": (7168, 28672),
    "OPT-66B qkv": (27648, 9216),
    "OPT-66B o": (9216, 9216),
    "OPT-66B up": (36864, 9216),
    "OPT-66B down": (9216, 36864),
}

DLMC_TRANSFORMER = {
    "attention": (512, 512),
    "feed-forward up": (2048, 512),
    "feed-forward down": (512, 2048),
}

# Output channels, input channels, and the pixels of one image of 224 x 224, which are the columns of B.
MOBILENET_V1 = {
    "1x1 at 112": (64, 32, 12544),
    "1x1 at 56, first": (128, 64, 3136),
    "1x1 at 56, second": (128, 128, 3136),
    "1x1 at 28, first": (256, 128, 784),
    "1x1 at 28, second": (256, 256, 784),
    "1x1 at 14, first": (512, 256, 196),
    "1x1 at 14, others": (512, 512, 196),
    "1x1 at 7, first": (1024, 512, 49),
    "1x1 at 7, second": (1024, 1024, 49),
}

MOBILENET_V2 = {  # "56-28": expanded at 56, then projected at 28, after a stride of two
    "project 16 at 112": (16, 32, 12544),
    "expand 16 at 112": (96, 16, 12544),
    "project 24 at 112-56": (24, 96, 3136),
    "expand 24 at 56": (144, 24, 3136),
    "project 24 at 56": (24, 144, 3136),
    "project 32 at 56-28": (32, 144, 784),
    "expand 32 at 28": (192, 32, 784),
    "project 32 at 28": (32, 192, 784),
    "project 64 at 28-14": (64, 192, 196),
    "expand 64 at 14": (384, 64, 196),
    "project 64 at 14": (64, 384, 196),
    "project 96 at 14": (96, 384, 196),
    "expand 96 at 14": (576, 96, 196),
    "project 96 at 14, others": (96, 576, 196),
    "project 160 at 14-7": (160, 576, 49),
    "expand 160 at 7": (960, 160, 49),
    "project 160 at 7": (160, 960, 49),
    "project 320 at 7": (320, 960, 49),
    "last at 7": (1280, 320, 49),
}

EFFICIENTNET_B0 = {  # the same, without the two vector products of each squeeze-and-excitation
    "project 16 at 112": (16, 32, 12544),
    "expand 16 at 112": (96, 16, 12544),
    "project 24 at 112-56": (24, 96, 3136),
    "expand 24 at 56": (144, 24, 3136),
    "project 24 at 56": (24, 144, 3136),
    "project 40 at 56-28": (40, 144, 784),
    "expand 40 at 28": (240, 40, 784),
    "project 40 at 28": (40, 240, 784),
    "project 80 at 28-14": (80, 240, 196),
    "expand 80 at 14": (480, 80, 196),
    "project 80 at 14": (80, 480, 196),
    "project 112 at 14": (112, 480, 196),
    "expand 112 at 14": (672, 112, 196),
    "project 112 at 14, others": (112, 672, 196),
    "project 192 at 14-7": (192, 672, 49),
    "expand 192 at 7": (1152, 192, 49),
    "project 192 at 7": (192, 1152, 49),
    "project 320 at 7": (320, 1152, 49),
    "last at 7": (1280, 320, 49),
}

RESNET_50 = {  # a 3x3 convolution has nine times the input channels as columns
    "1x1 down at 56": (64, 256, 3136),
    "3x3 at 56": (64, 576, 3136),
    "1x1 up at 56": (256, 64, 3136),
    "1x1 down at 28": (128, 512, 784),
    "3x3 at 28": (128, 1152, 784),
    "1x1 up at 28": (512, 128, 784),
    "1x1 down at 14": (256, 1024, 196),
    "3x3 at 14": (256, 2304, 196),
    "1x1 up at 14": (1024, 256, 196),
    "1x1 down at 7": (512, 2048, 49),
    "3x3 at 7": (512, 4608, 49),
    "1x1 up at 7": (2048, 512, 49),
}

SPARSITIES = (0.5, 0.9, 0.7, 0.95, 0.3, 0.75, 0.8, 0.98, 0.99)  # the literature's; coarse to fine
TOKENS = (64, 1, 512, 8, 16, 32, 128, 256, 1024, 2048, 4096, 8192)
FEW_TOKENS = (64, 1, 512, 16, 4096)
DTYPES = ("float32", "bfloat16", "float16")
