from .imagenet_r import split_imagenet_r as split_imagenet_r
from .mtil import mtil_set as mtil_set
from .sequence import dataset_sequence as dataset_sequence
