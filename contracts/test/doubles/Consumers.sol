// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestConsumer} from "../../src/interfaces/IRequestConsumer.sol";

/// @notice Writes down what it was told.
contract RecordingConsumer is IRequestConsumer {
    uint256 public calls;
    bytes32 public requestId;
    uint8 public outcome;
    bytes32 public outputHash;
    uint128 public amount;
    uint256 public gasSeen;

    function onSettled(bytes32 requestId_, uint8 outcome_, bytes32 outputHash_, uint128 amount_) external {
        gasSeen = gasleft();
        ++calls;
        requestId = requestId_;
        outcome = outcome_;
        outputHash = outputHash_;
        amount = amount_;
    }
}

/// @notice Does harm in its callback.
contract HostileConsumer {
    enum Way {
        Revert,
        BurnGas,
        HugeAnswer,
        Reenter
    }

    Way public way;
    address public target;
    bytes public data;
    bool public succeeded;
    bytes public answer;

    constructor(Way way_, address target_, bytes memory data_) {
        way = way_;
        target = target_;
        data = data_;
    }

    fallback() external {
        if (way == Way.Revert) revert("no");
        if (way == Way.BurnGas) {
            while (true) {}
        }
        if (way == Way.HugeAnswer) {
            assembly ("memory-safe") {
                return(0, 100000)
            }
        }
        (succeeded, answer) = target.call(data);
    }
}
