// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @notice Moves money out to one account, and says how much came in.
library Payment {
    using SafeERC20 for IERC20;

    /// @notice Thrown when the native coin could not be sent.
    error NativeTransferFailed(address account);

    /// @notice Sends `amount` of `token` (the zero address means the native coin) to `account`.
    function send(address token, address account, uint256 amount) internal {
        if (token != address(0)) {
            IERC20(token).safeTransfer(account, amount);
            return;
        }
        bool success;
        // No answer is copied, so the receiver cannot make the caller pay for a large one.
        assembly ("memory-safe") {
            success := call(gas(), account, amount, 0x00, 0x00, 0x00, 0x00)
        }
        require(success, NativeTransferFailed(account));
    }

    /// @notice This contract's balance of an ERC-20 token.
    function balance(address token) internal view returns (uint256) {
        return IERC20(token).balanceOf(address(this));
    }
}
