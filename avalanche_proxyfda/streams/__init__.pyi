from .imagenet_r import split_imagenet_r as split_imagenet_r
from .sequence import dataset_sequence as dataset_sequence
